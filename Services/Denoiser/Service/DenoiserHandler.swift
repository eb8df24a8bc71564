package import Checkpoint
package import Compute
import Diffusion
package import Failure
import Model
import Request
package import Stage
import Tensor

/// Stage `denoiser`: noise and text features to latents, the loop of `CogVideoXPipeline.__call__`.
///
/// Output `latents` `[1, F, C, h, w]` float32, including the frames that CogVideoX 1.5 pads (the decoder drops them);
/// with `keepStepLatents` also `latents_steps` `[n, 1, F, C, h, w]`. A draft, which stops early, gives the clean latents
/// that its last step foretells, and `state`, from which another job goes on. Noise and latents between steps are float32 in
/// every precision. The state after a step is a checkpoint: any denoiser with the same arithmetic resumes bit-exactly,
/// with a step cache after doing the last full step again.
package struct DenoiserHandler: StageHandler {
    package let stage = StageName.denoiser.rawValue
    package let modelDigest: String
    package let memoryPlan: MemoryPlan
    private let folder: ModelFolder
    private let backend: any Backend
    private let budget: MemoryBudget
    private let adapters: AdapterLibrary?
    private let transformers = TransformerVariants()
    private let colors: LatentColors?

    package var numerics: String { backend.numerics }

    package var isResumable: Bool { true }

    package var warm: [String] { transformers.warm }

    /// Opens the weight files; weights are read when the first job comes. Fails with `pipeline_unsupported` for a
    /// checkpoint that reads more than latents and one condition of as many channels, and with `adapters_folder_missing`.
    ///
    /// - Parameter adapters: the folder of adapters that jobs may name; nil where they may name none.
    package init(
        folder: ModelFolder, backend: any Backend, budget: MemoryBudget, adapters: String? = nil
    ) throws(Failure) {
        let config = folder.transformer
        guard [config.outChannels, 2 * config.outChannels].contains(config.inChannels) else {
            throw Failure(
                "pipeline_unsupported",
                "\(folder.path) reads \(config.inChannels) channels for \(config.outChannels) of latents",
                field: "model",
                remedy: "Use a checkpoint for text, image or control video.")
        }
        self.folder = folder
        self.backend = backend
        self.budget = budget
        let shapes = Transformer3D.expectedWeights(config)
        self.adapters = try adapters.map { path throws(Failure) in try AdapterLibrary(path: path, shapes: shapes) }
        colors = try LatentColors.of(folder)
        modelDigest = try folder.digest()
        let native = LatentSize(
            frames: config.sampleLatentFrames, channels: config.outChannels, height: config.sampleHeight,
            width: config.sampleWidth)
        memoryPlan = MemoryPlan([
            "weights in float32": try folder.weightBytes(.transformer, dtype: .float32),
            "activations at the native size": native.activationBytes(config, prompts: 2, steps: 50, elementBytes: 4),
        ])
    }

    package func run(_ task: StageTask) async throws(Failure) -> StageResult {
        let parameters = try task.parameters(DenoiseParameters.self)
        let size = LatentSize(parameters, folder: folder)
        let stack = try adapterStack(parameters)
        let needed = try checkMemory(parameters, size)
        let prompts = try await promptFeatures(task, guided: parameters.guidanceScale > 1)
        let given = try await task.optionalInput("init_latents", size.expectation)
        let condition = try await condition(task, parameters, size)
        let sampler = try Sampler(
            kind: parameters.scheduler, config: folder.scheduler, numInferenceSteps: parameters.numInferenceSteps,
            allowUnsafe: parameters.allowUnsafeStepCount, strength: parameters.strength)
        let limit = budget.limit
        let transformer = try transformers.transformer(
            parameters.dtype, stack, affinity: parameters.affinity, hasRoom: { needed + $0 <= limit }
        ) { () throws(Failure) -> Transformer3D in
            try Transformer3D(
                folder: folder, backend: backend, dtype: parameters.dtype.dtype,
                precision: parameters.dtype.transformerWeights)
        }
        let session = try transformer.session(
            frames: size.frames, height: size.height, width: size.width, promptEmbeddings: prompts,
            timesteps: sampler.timesteps, condition: condition?.joined(size))

        var result = StageResult()
        for entry in stack.entries { result.note(Self.note(entry)) }
        var loop = try DenoiseLoop(
            session: session, parameters: parameters, sampler: sampler, size: size, initialLatents: given,
            condition: condition,
            origin: DenoiseLoop.Origin(
                model: modelDigest, numerics: numerics, adapters: (parameters.loras ?? []).identity),
            preview: colors.map { LatentPreview(colors: $0, padding: size.paddingFrames(parameters, folder)) })
        if let state = try await task.optionalInput("state", .bytes) {
            try loop.restore(DenoiseCheckpoint(decoding: state))
        }
        for note in try await resume(&loop, task) { result.note(note) }
        try loop.run(task)
        if parameters.transformerCache != nil {
            result.note(
                "steps_computed: \(loop.computedSteps) of \(sampler.timesteps.count) "
                    + "(step cache \(parameters.stepCacheDescription)).")
        }
        result.add("latents", loop.result)
        if parameters.stepsUntil != nil { result.add("state", loop.savedState) }
        if parameters.keepStepLatents {
            result.add("latents_steps", Tensor.concatenated(loop.history.map { $0.reshaped([1] + $0.shape) }))
        }
        return result
    }

    /// The job's adapters, of exactly the contents that it was submitted with. Fails with `adapters_unavailable` and the
    /// codes of `AdapterLibrary`.
    private func adapterStack(_ parameters: DenoiseParameters) throws(Failure) -> AdapterStack {
        guard let uses = parameters.loras, !uses.isEmpty else { return .none }
        guard let adapters else {
            throw Failure(
                "adapters_unavailable", "The job names adapters, and this denoiser has no folder of them.",
                field: "loras", remedy: "Start it with --adapters.", retry: .otherWorker)
        }
        var entries: [AdapterStack.Entry] = []
        for use in uses {
            entries.append(
                AdapterStack.Entry(try adapters.weights(use.name, digest: use.digest), weight: use.weight))
        }
        return AdapterStack(entries)
    }

    /// `lora style: rank 4, scale 0.5, weight 0.8.`
    private static func note(_ entry: AdapterStack.Entry) -> String {
        let ranks = entry.weights.ranks.map(String.init).joined(separator: ", ")
        let scales = entry.weights.scales.map { "\($0)" }.joined(separator: ", ")
        return "lora \(entry.weights.label): rank \(ranks), scale \(scales), weight \(entry.weight)."
    }

    /// Text features `[L, D]` in the order of diffusers' batch: negative, positive.
    private func promptFeatures(_ task: StageTask, guided: Bool) async throws(Failure) -> [Tensor] {
        let expectation = TensorExpectation(
            [.float32, .bfloat16], [1, .any("tokens"), .exactly(folder.transformer.textEmbedDim)])
        var prompts: [Tensor] = []
        for name in guided ? ["negative_prompt_embeds", "prompt_embeds"] : ["prompt_embeds"] {
            let features = try await task.input(name, expectation)
            prompts.append(features.reshaped(Array(features.shape.dropFirst())))
        }
        return prompts
    }

    /// What the clip begins with, as latents; the encoder has scaled them. Fails with `condition_mismatch` when the
    /// model reads another kind of condition.
    private func condition(
        _ task: StageTask, _ parameters: DenoiseParameters, _ size: LatentSize
    ) async throws(Failure) -> LatentCondition? {
        let config = folder.transformer
        let kind = parameters.conditioning ?? .text
        guard kind.joinsChannels == (config.inChannels > config.outChannels) else {
            throw Failure(
                "condition_mismatch",
                "the job begins with \(kind.rawValue) and the model reads \(config.inChannels) channels for "
                    + "\(config.outChannels) of latents", field: "conditioning")
        }
        guard kind != .text else { return nil }
        let frames = kind == .image ? 1 : size.frames
        let latents = try await task.input(
            "condition_latents",
            LatentSize(
                frames: frames, channels: size.channels, height: size.height, width: size.width
            ).expectation)
        return LatentCondition(kind: kind, latents: latents)
    }

    /// Goes on from an earlier attempt's newest checkpoint, or from the one before it. Those that cannot be fetched or
    /// read cost time, not the job.
    ///
    /// - Returns: what the job's notes say about it.
    private func resume(_ loop: inout DenoiseLoop, _ task: StageTask) async throws(Failure) -> [String] {
        var notes: [String] = []
        for step in task.checkpointSteps {
            do {
                try loop.restore(DenoiseCheckpoint(decoding: try await task.checkpoint(step: step)))
                return notes + ["Resumed after step \(step)."]
            } catch {
                try task.checkCancelled()
                notes.append("The checkpoint after step \(step) could not be used: \(error.message)")
            }
        }
        return notes.isEmpty ? [] : notes + ["Started over, because no checkpoint could be used."]
    }

    /// Bytes that the job needs with one network; fails with `memory_insufficient`.
    private func checkMemory(_ parameters: DenoiseParameters, _ size: LatentSize) throws(Failure) -> Int {
        let dtype = parameters.dtype.dtype
        let weights = try folder.weightBytes(.transformer, dtype: dtype)
        let activations = size.activationBytes(
            folder.transformer, prompts: parameters.guidanceScale > 1 ? 2 : 1, steps: parameters.numInferenceSteps,
            elementBytes: dtype.byteCount)
        let kept = size.stepCacheBytes(parameters, folder.transformer)
        try budget.check(
            weights + activations + kept,
            for: "denoising \(parameters.width)×\(parameters.height), \(parameters.numFrames) frames")
        return weights + activations + kept
    }
}
