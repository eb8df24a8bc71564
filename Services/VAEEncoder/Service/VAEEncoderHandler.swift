package import Checkpoint
package import Compute
import Diffusion
package import Failure
import Model
import Request
package import Stage
import Tensor

/// Stage `vae-encoder`: pixels to latents, as the `prepare_latents` of diffusers' image-to-video, video-to-video and
/// control pipelines make them.
///
/// Input `pixels` `[T, H, W, 3]` uint8; output `condition_latents` `[1, F, C, h, w]` float32: a sample of the latents'
/// distribution with the seed's first normals, or its mode, times the scale that the job names.
package struct VAEEncoderHandler: StageHandler {
    package let stage = StageName.vaeEncoder.rawValue
    package let modelDigest: String
    package let memoryPlan: MemoryPlan
    private let folder: ModelFolder
    private let backend: any Backend
    private let budget: MemoryBudget
    private let encoders = LoadedOnce<DType, AutoencoderKLEncoder>()

    package var numerics: String { backend.numerics }

    /// Opens the weight files; weights are read when the first job comes.
    package init(folder: ModelFolder, backend: any Backend, budget: MemoryBudget) throws(Failure) {
        self.folder = folder
        self.backend = backend
        self.budget = budget
        modelDigest = try folder.digest()
        let scale = folder.vae.spatialCompressionRatio
        let memory = EncoderMemory(
            folder.vae, height: folder.transformer.sampleHeight * scale, width: folder.transformer.sampleWidth * scale,
            elementBytes: 4)
        memoryPlan = MemoryPlan([
            "weights in float32": try folder.weightBytes(.vae, dtype: .float32),
            "activations at the native size": memory.working + memory.caches,
        ])
    }

    package func run(_ task: StageTask) async throws(Failure) -> StageResult {
        let parameters = try task.parameters(ConditionParameters.self)
        let dtype = parameters.dtype.dtype
        let pixels = try await task.input(
            "pixels", TensorExpectation([.uint8], [.any("frames"), .any("height"), .any("width"), .exactly(3)]))
        let (height, width) = (pixels.shape[1], pixels.shape[2])
        let memory = EncoderMemory(folder.vae, height: height, width: width, elementBytes: dtype.byteCount)
        try budget.check(
            try folder.weightBytes(.vae, dtype: dtype) + memory.working + memory.caches,
            for: "encoding frames of \(width)×\(height) in \(parameters.dtype.rawValue)")
        let encoder = try encoders.value(for: dtype) { () throws(Failure) -> AutoencoderKLEncoder in
            try AutoencoderKLEncoder(folder: folder, backend: backend, dtype: dtype)
        }
        let distribution = try encoder.encode(frames: ModelSpace.normalized(pixels)) {
            (chunk, chunks) throws(Failure) in
            task.report(step: chunk, of: chunks)
            try task.checkCancelled()
        }
        var generator = TorchGenerator(seed: parameters.seed)
        let latents =
            parameters.isSampled
            ? distribution.sample(noise: generator.randn(shape: distribution.noiseShape)) : distribution.mode
        var result = StageResult()
        result.add(
            "condition_latents",
            latents.scaled(by: Float(parameters.scale)).reshaped([1] + distribution.shape))
        return result
    }
}
