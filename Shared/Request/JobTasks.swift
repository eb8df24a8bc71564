import Failure
import Wire

extension JobGraph {
    /// The tasks of `request`, producers before consumers.
    static func tasks(
        for request: GenerationRequest, traits: ModelTraits, initialLatents: TensorRef?, upsampling: Bool
    ) throws(Failure) -> [TaskSpecification] {
        var tasks: [TaskSpecification] = []
        if upsampling { tasks.append(try upsample(request)) }
        tasks.append(try encode(request, traits, upsampling: upsampling))
        tasks.append(try denoise(request, traits, initialLatents))
        if request.outputType != .latent { tasks.append(try decode(request, traits)) }
        if request.outputType == .video { tasks.append(try mux(request, traits)) }
        return tasks
    }

    private static func upsample(_ request: GenerationRequest) throws(Failure) -> TaskSpecification {
        TaskSpecification(
            name: "upsample", stage: StageName.promptUpsampler.rawValue, model: "",
            parameters: try CanonicalJSON.encode(UpsampleParameters(prompt: request.prompt)), inputs: [],
            durableOutputs: true)
    }

    private static func encode(
        _ request: GenerationRequest, _ traits: ModelTraits, upsampling: Bool
    ) throws(Failure) -> TaskSpecification {
        let parameters = EncodeParameters(
            prompt: request.prompt, negativePrompt: request.usesGuidance ? request.negativePrompt : nil,
            dtype: request.dtype)
        return TaskSpecification(
            name: "encode", stage: StageName.textEncoder.rawValue, model: traits.digest,
            parameters: try CanonicalJSON.encode(parameters),
            inputs: upsampling ? [input("prompt", of: "upsample")] : [], durableOutputs: true)
    }

    private static func denoise(
        _ request: GenerationRequest, _ traits: ModelTraits, _ initialLatents: TensorRef?
    ) throws(Failure) -> TaskSpecification {
        let parameters = DenoiseParameters(
            width: request.width, height: request.height, numFrames: request.numFrames,
            numInferenceSteps: request.numInferenceSteps, guidanceScale: request.guidanceScale,
            useDynamicCFG: request.useDynamicCFG, scheduler: request.scheduler, seed: request.seed,
            dtype: request.dtype, allowUnsafeStepCount: request.allowUnsafeStepCount,
            keepStepLatents: request.keepStepLatents, stepCache: request.stepCache,
            stepCacheThreshold: request.stepCacheThreshold, stepCacheCoefficients: request.stepCacheCoefficients,
            stepCacheRange: request.stepCacheRange)
        var inputs = [input("prompt_embeds", of: "encode")]
        if request.usesGuidance { inputs.append(input("negative_prompt_embeds", of: "encode")) }
        if let initialLatents { inputs.append(TaskInput(name: "init_latents", source: .blob(initialLatents))) }
        return TaskSpecification(
            name: "denoise", stage: StageName.denoiser.rawValue, model: traits.digest,
            parameters: try CanonicalJSON.encode(parameters), inputs: inputs, durableOutputs: true)
    }

    /// Frames are large and quickly made again: they stay in the decoder's memory unless they are the job's result.
    static func decode(
        _ request: GenerationRequest, _ traits: ModelTraits,
        latents: InputSource = .task(name: "denoise", output: "latents")
    ) throws(Failure) -> TaskSpecification {
        let parameters = DecodeParameters(
            dtype: request.dtype, numFrames: request.numFrames, keepFloatFrames: request.keepFloatFrames)
        return TaskSpecification(
            name: "decode", stage: StageName.vaeDecoder.rawValue, model: traits.digest,
            parameters: try CanonicalJSON.encode(parameters), inputs: [TaskInput(name: "latents", source: latents)],
            durableOutputs: request.outputType == .frames || request.keepFloatFrames)
    }

    static func mux(
        _ request: GenerationRequest, _ traits: ModelTraits
    ) throws(Failure) -> TaskSpecification {
        let parameters = MuxParameters(request: request, modelDigest: traits.digest)
        return TaskSpecification(
            name: "mux", stage: StageName.videoMuxer.rawValue, model: "",
            parameters: try CanonicalJSON.encode(parameters), inputs: [input("frames", of: "decode")],
            durableOutputs: true)
    }

    private static func input(_ name: String, of task: String) -> TaskInput {
        TaskInput(name: name, source: .task(name: task, output: name))
    }
}
