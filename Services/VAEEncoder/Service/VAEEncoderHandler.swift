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
        let (height, width) = (pixels.shape[1], pixels.shape[2]), scale = folder.vae.spatialCompressionRatio
        let possible =
            height % scale == 0 && width % scale == 0
            ? AutoencoderTiling(folder.vae).grid(height: height / scale, width: width / scale) : nil
        let grid = parameters.isTiled == true ? possible : nil
        let memory = EncoderMemory(
            folder.vae, height: grid.map { min(height, $0.tiling.height.length * scale) } ?? height,
            width: grid.map { min(width, $0.tiling.width.length * scale) } ?? width, elementBytes: dtype.byteCount)
        try budget.check(
            try folder.weightBytes(.vae, dtype: dtype) + memory.working + memory.caches,
            for: "encoding frames of \(width)×\(height) \(grid == nil ? "" : "in tiles ")in \(parameters.dtype)",
            remedy: grid == nil && possible != nil ? "Ask for vae_tiling" : "Ask for a smaller size")
        let encoder = try encoders.value(for: dtype) { () throws(Failure) -> AutoencoderKLEncoder in
            try AutoencoderKLEncoder(folder: folder, backend: backend, dtype: dtype)
        }
        let report = { (chunk: Int, chunks: Int) throws(Failure) in
            task.report(step: chunk, of: chunks)
            try task.checkCancelled()
        }
        let frames = try ModelSpace.normalized(pixels)
        let distribution =
            if let grid {
                try encoder.encodeTiled(frames: frames, grid, progress: report)
            } else {
                try encoder.encode(frames: frames, progress: report)
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
