import Bus
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
/// `keepFloatFrames`, `frames_float32` `[1, T, H, W, 3]` in [0, 1]. Of a task for some tiles of a clip only `tiles` `[n]`,
/// their pixels one behind the other, for the muxer to put together.
package struct VAEDecoderHandler: StageHandler {
    package let stage = StageName.vaeDecoder.rawValue
    package let modelDigest: String
    package let memoryPlan: MemoryPlan
    let folder: ModelFolder
    private let backend: any Backend
    let budget: MemoryBudget
    private let tilesWhenShort: Bool
    private let decoders = LoadedOnce<DType, AutoencoderKLDecoder>()

    package var numerics: String { backend.numerics }

    /// Opens the weight files; weights are read when the first job comes.
    ///
    /// - Parameter tilesWhenShort: whether clips that do not fit into `budget` otherwise are decoded in tiles.
    package init(
        folder: ModelFolder, backend: any Backend, budget: MemoryBudget, tilesWhenShort: Bool = false
    ) throws(Failure) {
        self.tilesWhenShort = tilesWhenShort
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
        let grid = AutoencoderTiling(folder.vae).grid(height: latents.shape[2], width: latents.shape[3])
        if let grid, let share = parameters.tiles {
            return try decodeShare(share, of: grid, latents, parameters, task)
        }
        if let grid, parameters.isTiled == true {
            return try decodeTiled(grid, latents, parameters, task)
        }
        do throws(Failure) {
            return try await decodeExactly(latents, parameters, task)
        } catch {
            guard let grid, tilesWhenShort, error.code == "memory_insufficient" else { throw error }
            var result = try decodeTiled(grid, latents, parameters, task)
            result.note("Decoded in tiles, which is not exact: \(error.message).")
            result.manner = DecodeManner.tiles.text
            return result
        }
    }

    /// The whole clip, alone or together with others. A muxer that has time gets its frames as they are decoded.
    private func decodeExactly(
        _ latents: Tensor, _ parameters: DecodeParameters, _ task: StageTask
    ) async throws(Failure) -> StageResult {
        let sender = FrameSender(await task.expectFollower())
        do throws(Failure) {
            let result = try await decodeExactly(latents, parameters, task, sender)
            sender.finish()
            return result
        } catch {
            sender.abandon()
            throw error
        }
    }

    private func decodeExactly(
        _ latents: Tensor, _ parameters: DecodeParameters, _ task: StageTask, _ sender: FrameSender
    ) async throws(Failure) -> StageResult {
        let dtype = parameters.dtype.dtype
        let (height, width) = (latents.shape[2], latents.shape[3])
        let party = await help(task, parameters, latents)
        let decoder: AutoencoderKLDecoder
        do throws(Failure) {
            decoder = try self.decoder(dtype)
        } catch {
            party?.leave(error.code, error.message)
            throw error
        }

        let scale = folder.vae.spatialCompressionRatio
        let count = decoder.frameCount(latentFrames: latents.shape[0])
        func emptyCollector() -> FrameCollector {
            FrameCollector(
                frames: count, height: height * scale, width: width * scale, keepsFloats: parameters.keepFloatFrames)
        }
        var collector = emptyCollector()
        func take(_ chunk: Tensor) throws(Failure) {
            try collector.append(chunk)
            sender.send(collector.frames, count: collector.frameCount)
        }
        var result = StageResult()
        if let party {
            let shared = SharedDecode(
                task: task, party: party, decoder: decoder, latents: latents, dtype: parameters.dtype
            ) { (members) throws(Failure) in
                try prepareMemory(height: height, width: width, parameters.dtype, members: members)
            }
            let made = try shared.run(
                begin: {
                    collector = emptyCollector()
                    sender.restart()
                }, frames: take)
            for note in made.notes { result.note(note) }
            result.manner = DecodeManner.shared(made.members).text
        } else {
            try decoder.decode(
                latents: latents,
                cacheDirectory: try prepareMemory(height: height, width: width, parameters.dtype, members: 1),
                progress: { (chunk, chunks) throws(Failure) in
                    task.report(step: chunk, of: chunks)
                    try task.checkCancelled()
                },
                frames: take)
        }

        result.add("frames", collector.frames)
        if let floats = collector.floatFrames { result.add("frames_float32", floats.reshaped([1] + floats.shape)) }
        return result
    }

    package func assist(_ assistance: StageAssistance) async throws(Failure) {
        let assistant = DecodeAssistant(assistance: assistance) { (order) throws(Failure) in
            let shape = order.latentShape
            let caches = try prepareMemory(
                height: shape[2], width: shape[3], order.dtype, members: order.seats.count)
            return (try decoder(order.dtype.dtype), caches)
        }
        try assistant.run()
    }

    /// From so many pixels of the whole clip on a decode is shared without being asked to be: 480×720, 25 frames.
    private static let sharedPixels = 480 * 720 * 25
    /// Decoders that then take part at the most.
    private static let membersUnasked = 8

    /// Others that help with a decode that is big, or too big for this worker, or was asked to be shared.
    private func help(_ task: StageTask, _ parameters: DecodeParameters, _ latents: Tensor) async -> AssistanceParty? {
        let (height, width) = (latents.shape[2], latents.shape[3]), scale = folder.vae.spatialCompressionRatio
        var members = parameters.workers ?? 1
        if parameters.workers == nil {
            let isBig = parameters.numFrames * height * width * scale * scale >= Self.sharedPixels
            let fits = fits(height: height, width: width, parameters.dtype)
            if isBig || !fits { members = Self.membersUnasked }
        }
        members = min(members, height)
        return members > 1 ? await task.gather(assistants: members - 1) : nil
    }

    private func fits(height: Int, width: Int, _ precision: Precision) -> Bool {
        do throws(Failure) {
            _ = try prepareMemory(height: height, width: width, precision, members: 1)
            return true
        } catch {
            return false
        }
    }

    func decoder(_ dtype: DType) throws(Failure) -> AutoencoderKLDecoder {
        try decoders.value(for: dtype) { () throws(Failure) -> AutoencoderKLDecoder in
            try AutoencoderKLDecoder(folder: folder, backend: backend, dtype: dtype)
        }
    }

    /// Checks that one of `members` that share a decode has the memory for its rows.
    ///
    /// - Returns: the folder where caches wait when there is too little memory for them, which costs a little time; nil
    ///   keeps them in memory.
    private func prepareMemory(
        height: Int, width: Int, _ precision: Precision, members: Int
    ) throws(Failure) -> String? {
        let dtype = precision.dtype, weights = try folder.weightBytes(.vae, dtype: dtype)
        let memory = DecoderMemory(
            folder.vae, height: height, width: width, elementBytes: dtype.byteCount, members: members)
        let sharing = members > 1 ? " with \(members) decoders" : ""
        let canTile = AutoencoderTiling(folder.vae).grid(height: height, width: width) != nil
        try budget.check(
            weights + memory.working, for: "decoding latents of \(width)×\(height) in \(precision.rawValue)\(sharing)",
            remedy: canTile ? "Ask for vae_tiling, start the decoder with --tile-when-short" : "Ask for a smaller size")
        return cacheDirectory(memory, weights: weights)
    }

    /// Where caches wait when there is too little memory for them; nil keeps them in memory.
    func cacheDirectory(_ memory: DecoderMemory, weights: Int) -> String? {
        weights + memory.working + memory.caches > budget.limit ? Self.temporaryFolder : nil
    }

    /// Where files go that nobody else sees.
    static var temporaryFolder: String { FileManager.default.temporaryDirectory.path }

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
