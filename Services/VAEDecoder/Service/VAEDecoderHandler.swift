package import Checkpoint
package import Compute
package import Failure
import FoundationEssentials
import Model
import Request
package import Stage
import Tensor

/// Stage `vae-decoder`: latents to frames, as the pipeline's `decode_latents` and `postprocess_video` make them.
///
/// Outputs: `frames` `[T, H, W, 3]` uint8 (× 255, rounded half to even, as for diffusers' `pil`) and, with
/// `keepFloatFrames`, `frames_float32` `[1, T, H, W, 3]` in [0, 1].
package struct VAEDecoderHandler: StageHandler {
    package let stage = StageName.vaeDecoder.rawValue
    package let modelDigest: String
    package let memoryPlan: MemoryPlan
    private let folder: ModelFolder
    private let backend: any Backend
    private let budget: MemoryBudget
    private let decoders = LoadedOnce<DType, AutoencoderKLDecoder>()

    package var numerics: String { backend.numerics }

    /// Opens the weight files; weights are read when the first job comes.
    package init(folder: ModelFolder, backend: any Backend, budget: MemoryBudget) throws(Failure) {
        self.folder = folder
        self.backend = backend
        self.budget = budget
        modelDigest = try folder.digest()
        let memory = DecoderMemory(
            folder.vae, height: folder.transformer.sampleHeight, width: folder.transformer.sampleWidth, elementBytes: 4)
        memoryPlan = MemoryPlan([
            "weights in float32": try folder.weightBytes(.vae, dtype: .float32),
            "activations at the native size": memory.working,
            "caches between chunks (memory permitting)": memory.caches,
        ])
    }

    package func run(_ task: StageTask) async throws(Failure) -> StageResult {
        let parameters = try task.parameters(DecodeParameters.self)
        let latents = try await latents(task, parameters)
        let dtype = parameters.dtype.dtype
        let (height, width) = (latents.shape[2], latents.shape[3])
        let weights = try folder.weightBytes(.vae, dtype: dtype)
        let memory = DecoderMemory(folder.vae, height: height, width: width, elementBytes: dtype.byteCount)
        try budget.check(
            weights + memory.working, for: "decoding latents of \(width)×\(height) in \(parameters.dtype.rawValue)")
        // With too little memory for the caches they wait in a file, which costs a little time.
        let cacheDirectory =
            weights + memory.working + memory.caches > budget.limit ? FileManager.default.temporaryDirectory.path : nil
        let decoder = try decoders.value(for: parameters.dtype.dtype) { () throws(Failure) -> AutoencoderKLDecoder in
            try AutoencoderKLDecoder(folder: folder, backend: backend, dtype: dtype)
        }

        let scale = folder.vae.spatialCompressionRatio
        var collector = FrameCollector(
            frames: decoder.frameCount(latentFrames: latents.shape[0]), height: height * scale, width: width * scale,
            keepsFloats: parameters.keepFloatFrames)
        try decoder.decode(
            latents: latents, cacheDirectory: cacheDirectory,
            progress: { (chunk, chunks) throws(Failure) in
                task.report(step: chunk, of: chunks)
                try task.checkCancelled()
            },
            frames: { (chunk) throws(Failure) in try collector.append(chunk) })

        var result = StageResult()
        result.add("frames", collector.frames)
        if let floats = collector.floatFrames { result.add("frames_float32", floats.reshaped([1] + floats.shape)) }
        return result
    }

    /// The latents `[F, C, h, w]` without the frames that CogVideoX 1.5 put in front to fill a patch.
    private func latents(_ task: StageTask, _ parameters: DecodeParameters) async throws(Failure) -> Tensor {
        let input = try await task.input(
            "latents",
            TensorExpectation(
                [.float32, .bfloat16],
                [1, .any("frames"), .exactly(folder.vae.latentChannels), .any("height"), .any("width")]))
        let latents = input.reshaped(Array(input.shape.dropFirst()))
        let wanted = (max(parameters.numFrames, 1) - 1) / folder.vae.temporalCompressionRatio + 1
        let additional = latents.shape[0] - wanted
        guard additional >= 0 else {
            throw Failure(
                "tensor_misshapen",
                "latents has \(latents.shape[0]) frames and \(parameters.numFrames) video frames need "
                    + "\(wanted)", field: "latents", remedy: "Send the latents of the whole clip.")
        }
        return latents.rows(additional..<latents.shape[0])
    }
}
