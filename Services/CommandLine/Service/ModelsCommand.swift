package import ArgumentParser
import Checkpoint
import Diffusion
import Failure
import Foundation
import Request
import Tensor

/// `zoetrope models …`.
package struct ModelsCommand: AsyncParsableCommand {
    package static let configuration = CommandConfiguration(
        commandName: "models", abstract: "Look at model folders and adapters, check them, and convert SAT checkpoints.",
        subcommands: [
            InspectCommand.self, ConvertCommand.self, VerifyCommand.self, AdapterCommand.self, FitPreviewCommand.self,
        ])

    package init() {}
}

/// `zoetrope models inspect DIR`: what a folder holds and what it can make, without loading a weight.
package struct InspectCommand: AsyncParsableCommand {
    package static let configuration = CommandConfiguration(
        commandName: "inspect", abstract: "Say what a model folder holds, and check that it is complete.")

    @Argument(help: "Folder in diffusers layout.") package var folder: String
    @Flag(help: "Also read every weight and print the model's digest.") package var digest = false

    package init() {}

    package func run() async throws {
        let folder = try ModelFolder(path: folder)
        let traits = try ModelTraits(folder: folder, digest: "")
        let transformer = folder.transformer
        Console.print("\(folder.name): \(folder.pipelineClass)")
        Console.print(
            "  native request  \(traits.nativeWidth)×\(traits.nativeHeight), \(traits.nativeFrames) frames at "
                + "\(traits.defaultFramesPerSecond) fps, \(traits.defaultSteps) steps, guidance "
                + "\(traits.defaultGuidanceScale), scheduler \(traits.defaultScheduler.rawValue)")
        Console.print(
            "  transformer     \(transformer.numLayers) layers, \(transformer.numAttentionHeads) heads × "
                + "\(transformer.attentionHeadDim), \(position(transformer)), text limit "
                + "\(transformer.maxTextSeqLength) tokens")
        Console.print(
            "  vae             \(folder.vae.blockOutChannels) channels, \(folder.vae.latentChannels) latent channels, "
                + "scaling factor \(folder.vae.scalingFactor)")
        Console.print("  text encoder    \(folder.textEncoder.numLayers) layers, width \(folder.textEncoder.dModel)")
        for component in [Component.textEncoder, .transformer, .vae] {
            let weights = try folder.weights(component)
            var parameters = 0
            var bytes = 0
            var dtypes: Set<String> = []
            for name in weights.names {
                let tensor = try weights.tensor(name)
                parameters += tensor.count
                bytes += tensor.byteCount
                dtypes.insert(tensor.dtype.safetensorsName)
            }
            Console.print(
                String(
                    format: "  %@ %d tensors, %.3f M parameters, %.1f MB, %@",
                    component.rawValue.padding(toLength: 15, withPad: " ", startingAt: 0), weights.names.count,
                    Double(parameters) / 1e6, Double(bytes) / 1e6, dtypes.sorted().joined(separator: " ")))
        }
        if digest { Console.print("  digest          \(try folder.digest())") }
    }

    private func position(_ config: Transformer3DConfig) -> String {
        switch (config.useRotaryPositionalEmbeddings, config.useLearnedPositionalEmbeddings) {
        case (true, true): "RoPE and learned positions"
        case (true, false): "RoPE"
        default: "sin-cos positions"
        }
    }
}
