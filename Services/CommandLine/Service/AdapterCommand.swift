package import ArgumentParser
import Checkpoint
import Failure
import Foundation
import Model
import Tensor

/// `zoetrope models adapter FILE`: what a LoRA file changes, and how strongly.
package struct AdapterCommand: AsyncParsableCommand {
    package static let configuration = CommandConfiguration(
        commandName: "adapter", abstract: "Say what a LoRA file changes, its rank and its scale.")

    @Argument(help: "The adapter's file, or the folder with pytorch_lora_weights.safetensors.") package var file: String
    @Option(help: "Model folder that it is meant for: checks that it fits.") package var model: String?
    @Flag(help: "Also list the layers.") package var layers = false

    package init() {}

    package func run() async throws {
        let adapter = try AdapterWeights(path: file)
        if let model { try adapter.check(shapes: Transformer3D.expectedWeights(ModelFolder(path: model).transformer)) }
        let ranks = adapter.ranks.map(String.init).joined(separator: ", ")
        let scales = adapter.scales.map { String(format: "%g", $0) }.joined(separator: ", ")
        Console.print("\(file): LoRA with the names of \(adapter.format.rawValue)")
        Console.print("  layers  \(adapter.layers.count), \(adapter.byteCount / 1000) kB")
        Console.print("  rank    \(ranks)")
        Console.print("  scale   \(scales)")
        if let model { Console.print("  fits    \(model)") }
        Console.print("  digest  \(try adapter.digest())")
        if layers {
            for name in adapter.layers {
                guard let delta = adapter.delta(for: name) else { continue }
                Console.print(
                    "  \(name)  \(delta.up.shape[0])×\(delta.down.shape[1]), rank \(delta.rank), scale "
                        + String(format: "%g", delta.scale))
            }
        }
        for warning in adapter.warnings { Console.note("warning: \(warning)") }
    }
}
