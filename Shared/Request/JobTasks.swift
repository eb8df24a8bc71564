import Failure
import Wire

extension JobGraph {
    /// The tasks of `request`, producers before consumers.
    static func tasks(
        for request: GenerationRequest, traits: ModelTraits, initialLatents: TensorRef?, pixels: TensorRef?,
        upsampling: Bool, caption: TensorRef? = nil
    ) throws(Failure) -> [TaskSpecification] {
        var tasks: [TaskSpecification] = []
        if upsampling { tasks.append(try upsample(request)) }
        if let caption { tasks.append(try self.caption(caption)) }
        // Only tasks that write a prompt come before the text encoder.
        let prompt = tasks.last.map { InputSource.task(name: $0.name, output: "prompt") }
        tasks.append(try encode(request, traits, prompt: prompt))
        if let pixels, let kind = request.conditioning { tasks.append(try condition(kind, pixels, request, traits)) }
        tasks.append(
            try denoise(request, traits, from: DenoiseSources(request, initialLatents: initialLatents)))
        return tasks + (try pictures(request, traits, prompt: prompt))
    }

    private static func upsample(_ request: GenerationRequest) throws(Failure) -> TaskSpecification {
        TaskSpecification(
            name: "upsample", stage: StageName.promptUpsampler.rawValue, model: "",
            parameters: try CanonicalJSON.encode(UpsampleParameters(prompt: request.prompt)), inputs: [],
            durableOutputs: true)
    }

    private static func caption(_ frames: TensorRef) throws(Failure) -> TaskSpecification {
        TaskSpecification(
            name: "caption", stage: StageName.promptUpsampler.rawValue, model: "",
            parameters: try CanonicalJSON.encode(CaptionParameters()),
            inputs: [TaskInput(name: "frames", source: .blob(frames))], durableOutputs: true)
    }

    private static func encode(
        _ request: GenerationRequest, _ traits: ModelTraits, prompt: InputSource?
    ) throws(Failure) -> TaskSpecification {
        let parameters = EncodeParameters(
            prompt: request.prompt, negativePrompt: request.usesGuidance ? request.negativePrompt : nil,
            dtype: request.dtype)
        return TaskSpecification(
            name: "encode", stage: StageName.textEncoder.rawValue, model: traits.digest,
            parameters: try CanonicalJSON.encode(parameters),
            inputs: prompt.map { [TaskInput(name: "prompt", source: $0)] } ?? [], durableOutputs: true)
    }

    private static func condition(
        _ kind: Conditioning, _ pixels: TensorRef, _ request: GenerationRequest, _ traits: ModelTraits
    ) throws(Failure) -> TaskSpecification {
        let parameters = ConditionParameters(
            dtype: request.dtype, isSampled: kind.isSampled, seed: request.seed,
            scale: request.imageLatentScale ?? traits.latentScale, isTiled: request.vaeTiling)
        return TaskSpecification(
            name: "condition", stage: StageName.vaeEncoder.rawValue, model: traits.digest,
            parameters: try CanonicalJSON.encode(parameters),
            inputs: [TaskInput(name: "pixels", source: .blob(pixels))], durableOutputs: true)
    }

    /// Where the denoiser's inputs come from.
    struct DenoiseSources {
        /// By input name: embeddings, and what else the job begins with.
        var inputs: [String: InputSource]

        /// From the tasks before it, and noise that was uploaded.
        init(_ request: GenerationRequest, initialLatents: TensorRef?) {
            inputs = ["prompt_embeds": .task(name: "encode", output: "prompt_embeds")]
            if request.usesGuidance {
                inputs["negative_prompt_embeds"] = .task(name: "encode", output: "negative_prompt_embeds")
            }
            if request.conditioning != nil {
                inputs["condition_latents"] = .task(name: "condition", output: "condition_latents")
            }
            if let initialLatents { inputs["init_latents"] = .blob(initialLatents) }
        }

        /// From what another job has left.
        init(stored: [String: TensorRef]) { inputs = stored.mapValues { .blob($0) } }
    }

    static func denoise(
        _ request: GenerationRequest, _ traits: ModelTraits, from sources: DenoiseSources
    ) throws(Failure) -> TaskSpecification {
        let parameters = DenoiseParameters(
            width: request.width, height: request.height, numFrames: request.numFrames,
            numInferenceSteps: request.numInferenceSteps, guidanceScale: request.guidanceScale,
            useDynamicCFG: request.useDynamicCFG, scheduler: request.scheduler, seed: request.seed,
            dtype: request.dtype, allowUnsafeStepCount: request.allowUnsafeStepCount,
            keepStepLatents: request.keepStepLatents, stepCache: request.stepCache,
            stepCacheThreshold: request.stepCacheThreshold, stepCacheCoefficients: request.stepCacheCoefficients,
            stepCacheRange: request.stepCacheRange, conditioning: request.conditioning, strength: request.strength,
            stepsUntil: request.stepsUntil, loras: request.loras)
        guard request.loras?.allSatisfy({ !$0.digest.isEmpty }) ?? true else {
            throw Failure(
                "adapters_unavailable", "The request names adapters, and there is no folder of them here.",
                field: "loras", remedy: "Start gateway and denoisers with --adapters, or leave loras out.")
        }
        let order = ["prompt_embeds", "negative_prompt_embeds", "condition_latents", "init_latents", "state"]
        return TaskSpecification(
            name: "denoise", stage: StageName.denoiser.rawValue, model: traits.digest,
            parameters: try CanonicalJSON.encode(parameters),
            inputs: order.compactMap { name in sources.inputs[name].map { TaskInput(name: name, source: $0) } },
            durableOutputs: true, affinity: parameters.affinity)
    }

    static func input(_ name: String, of task: String) -> TaskInput {
        TaskInput(name: name, source: .task(name: task, output: name))
    }
}
