package import Diffusion

/// One video to make, complete and validated: every default is filled in and every value is one the model can do.
///
/// Made by `RequestDraft.resolved(for:)`. As JSON (snake_case names, those of the HTTP interface) it is the job's
/// specification in the ledger. Names and meanings are those of diffusers' `CogVideoXPipeline.__call__`.
package struct GenerationRequest: Sendable, Hashable, Codable {
    /// The name of the model that was asked, for people; tasks carry its digest.
    package var model: String
    package var prompt: String
    /// Empty when the user gave none; used only when `guidanceScale` exceeds 1.
    package var negativePrompt: String
    /// Pixels, a multiple of the model's size divisor.
    package var width: Int
    package var height: Int
    package var numFrames: Int
    package var framesPerSecond: Int
    package var numInferenceSteps: Int
    /// Classifier-free guidance runs when this exceeds 1.
    package var guidanceScale: Double
    package var useDynamicCFG: Bool
    package var scheduler: SamplerKind
    package var seed: UInt64
    /// Whether the seed was drawn here because the user gave none; such requests have equal digests.
    package var seedIsRandom: Bool
    package var dtype: Precision
    package var container: OutputContainer
    package var outputType: OutputType
    package var upsamplePrompt: Bool
    package var allowUnsafeStepCount: Bool
    /// Whether the denoiser keeps the latents after every step as one more output.
    package var keepStepLatents: Bool
    /// Whether the decoder keeps the frames as float32 in [0, 1] as well.
    package var keepFloatFrames: Bool
    /// Whether the client supplies the initial noise instead of the seed's.
    package var useInitialLatents: Bool
    /// Which parts of steps are left out; nil for none.
    package var stepCache: StepCacheMethod?
    /// Of `teacache` and `first_block`: how much change is taken for none, 0 … 1.
    package var stepCacheThreshold: Double?
    /// Of `teacache`: the model's polynomial, highest power first.
    package var stepCacheCoefficients: [Double]?
    /// Of `pab`: how many steps share one attention.
    package var stepCacheRange: Int?
    /// What the clip begins with; nil: its prompt alone.
    package var conditioning: Conditioning?
    /// How pictures of another shape became those of the clip's size.
    package var fit: PictureFit?
    /// Of video to video: which part of the steps runs, 0 … 1.
    package var strength: Double?
    /// What the latents of an image are multiplied by.
    package var imageLatentScale: Double?
    /// A draft: how many steps are done before a preview is made of what they foretell; nil makes the video.
    package var stepsUntil: Int?
    /// Decoders that may share the decode, by rows; nil: as many as a big video needs, 1: one alone.
    package var decodeWorkers: Int?
    /// Adapters of the transformer, first to last; nil for none.
    package var loras: [AdapterUse]?
    /// Whether the autoencoder works in tiles (diffusers' `vae.enable_tiling()`); nil: no.
    package var vaeTiling: Bool?
    /// What it began with beside its text, by digest; nil: nothing.
    package var inputs: [RequestInput]?
    /// True when the prompt is to be written by whoever looks at the clip of `caption_of`; nil otherwise.
    package var isCaptioned: Bool?
    /// What was decided for the user and should be seen, such as the frame count that `seconds` led to.
    package var notes: [String]

    /// A request taken as it is, without the checks of `RequestDraft.resolved(for:)`.
    package init(
        model: String = "", prompt: String, negativePrompt: String = "", width: Int, height: Int, numFrames: Int,
        framesPerSecond: Int,
        numInferenceSteps: Int, guidanceScale: Double, useDynamicCFG: Bool = false, scheduler: SamplerKind,
        seed: UInt64, seedIsRandom: Bool = false, dtype: Precision = .float32, container: OutputContainer = .mp4,
        outputType: OutputType = .video, upsamplePrompt: Bool = false, allowUnsafeStepCount: Bool = false,
        keepStepLatents: Bool = false, keepFloatFrames: Bool = false, useInitialLatents: Bool = false,
        stepCache: StepCacheMethod? = nil, stepCacheThreshold: Double? = nil,
        stepCacheCoefficients: [Double]? = nil, stepCacheRange: Int? = nil, conditioning: Conditioning? = nil,
        fit: PictureFit? = nil, strength: Double? = nil, imageLatentScale: Double? = nil,
        stepsUntil: Int? = nil, decodeWorkers: Int? = nil, loras: [AdapterUse]? = nil, vaeTiling: Bool? = nil,
        inputs: [RequestInput]? = nil, isCaptioned: Bool? = nil,
        notes: [String] = []
    ) {
        self.loras = loras
        self.model = model
        self.prompt = prompt
        self.negativePrompt = negativePrompt
        self.width = width
        self.height = height
        self.numFrames = numFrames
        self.framesPerSecond = framesPerSecond
        self.numInferenceSteps = numInferenceSteps
        self.guidanceScale = guidanceScale
        self.useDynamicCFG = useDynamicCFG
        self.scheduler = scheduler
        self.seed = seed
        self.seedIsRandom = seedIsRandom
        self.dtype = dtype
        self.container = container
        self.outputType = outputType
        self.upsamplePrompt = upsamplePrompt
        self.allowUnsafeStepCount = allowUnsafeStepCount
        self.keepStepLatents = keepStepLatents
        self.keepFloatFrames = keepFloatFrames
        self.useInitialLatents = useInitialLatents
        self.stepCache = stepCache
        self.stepCacheThreshold = stepCacheThreshold
        self.stepCacheCoefficients = stepCacheCoefficients
        self.stepCacheRange = stepCacheRange
        self.conditioning = conditioning
        self.fit = fit
        self.strength = strength
        self.imageLatentScale = imageLatentScale
        self.stepsUntil = stepsUntil
        self.decodeWorkers = decodeWorkers
        self.vaeTiling = vaeTiling
        self.inputs = inputs
        self.isCaptioned = isCaptioned
        self.notes = notes
    }

    enum CodingKeys: String, CodingKey {
        case model, prompt, width, height, scheduler, seed, dtype, container, conditioning, fit, strength, notes
        case loras, inputs
        case negativePrompt = "negative_prompt"
        case numFrames = "num_frames"
        case framesPerSecond = "fps"
        case numInferenceSteps = "num_inference_steps"
        case guidanceScale = "guidance_scale"
        case useDynamicCFG = "use_dynamic_cfg"
        case seedIsRandom = "seed_is_random"
        case outputType = "output_type"
        case upsamplePrompt = "upsample_prompt"
        case allowUnsafeStepCount = "allow_unsafe_steps"
        case keepStepLatents = "keep_step_latents"
        case keepFloatFrames = "keep_float_frames"
        case useInitialLatents = "use_init_latents"
        case stepCache = "step_cache"
        case stepCacheThreshold = "step_cache_threshold"
        case stepCacheCoefficients = "step_cache_coefficients"
        case stepCacheRange = "step_cache_range"
        case imageLatentScale = "image_latent_scale"
        case stepsUntil = "steps_until"
        case decodeWorkers = "decode_workers"
        case vaeTiling = "vae_tiling"
        case isCaptioned = "is_captioned"
    }

    /// Whether the denoiser needs the embeddings of the negative prompt (diffusers: `guidance_scale > 1`).
    package var usesGuidance: Bool { guidanceScale > 1 }

    /// Whether clips of more than one tile are encoded and decoded in tiles.
    package var usesTiling: Bool { vaeTiling == true }

    /// Length of the clip in seconds.
    package var duration: Double { Double(numFrames) / Double(framesPerSecond) }
}
