import Checkpoint
import Compute
import DemoModel
import Diffusion
import Failure
import Foundation
import Model
import Tensor

/// How far bfloat16 and int8 drift from float32 over a whole denoising: 50 steps of DDIM with guidance 6, from the same
/// noise and the same random prompt embeddings.
struct Quality {
    private static let steps = 50, guidance = 6.0

    let threads: Int

    /// Prints a line for each model and type.
    func run() throws {
        print(
            "latents after \(Self.steps) steps against float32: cosine, relative error, PSNR over the range of float32")
        let demo = try ModelFolder(path: try DemoModel.path())
        try compare(
            "demo model", demo, frames: demo.transformer.sampleLatentFrames, demo.transformer.sampleHeight,
            demo.transformer.sampleWidth)
        try compare("two 2b blocks, 994 tokens", try BenchModel(.small).folder, frames: 2, 32, 48)
        try compare("two 5b blocks, 994 tokens", try BenchModel(.large).folder, frames: 2, 32, 48)
    }

    private func compare(_ name: String, _ folder: ModelFolder, frames: Int, _ height: Int, _ width: Int) throws {
        let reference = try latents(folder, frames, height, width, .float32, .activation)
        for (type, precision) in [("bfloat16", ProductPrecision.activation), ("int8", .int8)] {
            let values = try latents(folder, frames, height, width, .bfloat16, precision)
            var product = 0.0, squares = (0.0, 0.0), error = 0.0
            for (x, y) in zip(reference, values) {
                product += Double(x) * Double(y)
                squares.0 += Double(x) * Double(x)
                squares.1 += Double(y) * Double(y)
                error += Double(x - y) * Double(x - y)
            }
            let range = Double((reference.max() ?? 0) - (reference.min() ?? 0))
            print(
                String(
                    format: "%@, %@: %.6f, %.4f, %.1f dB", name, type,
                    product / (squares.0 * squares.1).squareRoot(), (error / squares.0).squareRoot(),
                    10 * log10(range * range / (error / Double(reference.count)))))
            fflush(nil)
        }
    }

    private func latents(
        _ folder: ModelFolder, _ frames: Int, _ height: Int, _ width: Int, _ dtype: DType, _ precision: ProductPrecision
    ) throws -> [Float] {
        let config = folder.transformer
        let transformer = try Transformer3D(
            folder: folder, backend: CPUBackend(threads: threads), dtype: dtype, precision: precision)
        var generator = TorchGenerator(seed: 42)
        let prompts = (0..<2).map { _ in generator.randn(shape: [config.maxTextSeqLength, config.textEmbedDim]) }
        var latents = generator.randn(shape: [frames, config.inChannels, height, width])
        var sampler = try Sampler(kind: .ddim, config: folder.scheduler, numInferenceSteps: Self.steps)
        let session = try transformer.session(
            frames: frames, height: height, width: width, promptEmbeddings: prompts, timesteps: sampler.timesteps)
        for (index, timestep) in sampler.timesteps.enumerated() {
            let predictions = try session.predict(latents: latents, timestep: timestep)
            latents = try sampler.step(
                modelOutput: try Guidance.classifierFree(
                    uncond: predictions[0], cond: predictions[1], scale: Self.guidance),
                latents: latents, stepIndex: index, generator: &generator)
        }
        return latents.floats()
    }
}
