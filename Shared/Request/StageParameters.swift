package import Diffusion

/// What the prompt upsampler is told (task `upsample`).
package struct UpsampleParameters: Sendable, Hashable, Codable {
    package var prompt: String

    package init(prompt: String) { self.prompt = prompt }
}

/// What whoever captions a clip is told (task `caption`): nothing but the clip, the input tensor `frames`
/// `[T, H, W, 3]` uint8, some of its frames in their order.
package struct CaptionParameters: Sendable, Hashable, Codable {
    package init() {}
}

/// What the text encoder is told (task `encode`). An input tensor `prompt` (UTF-8 bytes), when there is one, takes the
/// place of `prompt`.
package struct EncodeParameters: Sendable, Hashable, Codable {
    package var prompt: String
    /// nil when the job runs without guidance: no negative embeddings are then made.
    package var negativePrompt: String?
    package var dtype: Precision

    package init(prompt: String, negativePrompt: String?, dtype: Precision) {
        self.prompt = prompt
        self.negativePrompt = negativePrompt
        self.dtype = dtype
    }
}

/// What the denoiser is told (task `denoise`). Sizes are pixels and pixel frames.
package struct DenoiseParameters: Sendable, Hashable, Codable {
    package var width: Int
    package var height: Int
    package var numFrames: Int
    package var numInferenceSteps: Int
    package var guidanceScale: Double
    package var useDynamicCFG: Bool
    package var scheduler: SamplerKind
    package var seed: UInt64
    package var dtype: Precision
    package var allowUnsafeStepCount: Bool
    package var keepStepLatents: Bool
    /// Nil for none; its settings are there where it has them.
    package var stepCache: StepCacheMethod?
    package var stepCacheThreshold: Double?
    package var stepCacheCoefficients: [Double]?
    package var stepCacheRange: Int?
    /// What the input `condition_latents` is; nil: there is none.
    package var conditioning: Conditioning?
    /// Of video to video: which part of the steps runs.
    package var strength: Double?
    /// How many steps are done before the run stops, with its state as one more output; nil: all.
    package var stepsUntil: Int?
    /// Adapters with the digests of their files; nil for none.
    package var loras: [AdapterUse]?

    package init(
        width: Int, height: Int, numFrames: Int, numInferenceSteps: Int, guidanceScale: Double, useDynamicCFG: Bool,
        scheduler: SamplerKind, seed: UInt64, dtype: Precision, allowUnsafeStepCount: Bool = false,
        keepStepLatents: Bool = false, stepCache: StepCacheMethod? = nil, stepCacheThreshold: Double? = nil,
        stepCacheCoefficients: [Double]? = nil, stepCacheRange: Int? = nil, conditioning: Conditioning? = nil,
        strength: Double? = nil, stepsUntil: Int? = nil, loras: [AdapterUse]? = nil
    ) {
        self.loras = loras
        self.width = width
        self.height = height
        self.numFrames = numFrames
        self.numInferenceSteps = numInferenceSteps
        self.guidanceScale = guidanceScale
        self.useDynamicCFG = useDynamicCFG
        self.scheduler = scheduler
        self.seed = seed
        self.dtype = dtype
        self.allowUnsafeStepCount = allowUnsafeStepCount
        self.keepStepLatents = keepStepLatents
        self.stepCache = stepCache
        self.stepCacheThreshold = stepCacheThreshold
        self.stepCacheCoefficients = stepCacheCoefficients
        self.stepCacheRange = stepCacheRange
        self.conditioning = conditioning
        self.strength = strength
        self.stepsUntil = stepsUntil
    }
}

/// What the VAE encoder is told (task `condition`).
package struct ConditionParameters: Sendable, Hashable, Codable {
    package var dtype: Precision
    /// Whether latents are drawn from their distribution with the first normals of `seed`; else they are its mode.
    package var isSampled: Bool
    package var seed: UInt64
    /// What the latents are multiplied by.
    package var scale: Double
    /// Whether a clip of more than one tile is encoded in tiles; nil: no.
    package var isTiled: Bool?

    package init(dtype: Precision, isSampled: Bool, seed: UInt64, scale: Double, isTiled: Bool? = nil) {
        self.dtype = dtype
        self.isSampled = isSampled
        self.seed = seed
        self.scale = scale
        self.isTiled = isTiled
    }
}

/// What the VAE decoder is told (task `decode`).
package struct DecodeParameters: Sendable, Hashable, Codable {
    package var dtype: Precision
    /// Pixel frames of the finished clip; latent frames beyond what they need are padding at the front (CogVideoX 1.5).
    package var numFrames: Int
    package var keepFloatFrames: Bool
    /// Decoders that may share it by rows; nil: the decoder decides.
    package var workers: Int?
    /// Pixels of a frame that the task decodes: its share of the work, for the broker's estimates.
    package var pixels: Int?
    /// Whether a clip of more than one tile is decoded in tiles and put together; nil: no.
    package var isTiled: Bool?
    /// The tiles that the task decodes for the muxer to put together; nil: the whole clip.
    package var tiles: TileShare?

    package init(
        dtype: Precision, numFrames: Int, keepFloatFrames: Bool = false, workers: Int? = nil, pixels: Int? = nil,
        isTiled: Bool? = nil, tiles: TileShare? = nil
    ) {
        self.dtype = dtype
        self.numFrames = numFrames
        self.keepFloatFrames = keepFloatFrames
        self.workers = workers
        self.pixels = pixels
        self.isTiled = isTiled
        self.tiles = tiles
    }
}

/// What the video muxer is told (task `mux`): the whole request, for the file's manifest, and the model's identity. An
/// input tensor `prompt` (UTF-8 bytes), when there is one, is the prompt that the text encoder read.
package struct MuxParameters: Sendable, Hashable, Codable {
    package var request: GenerationRequest
    /// Hexadecimal SHA-256 of the model folder.
    package var modelDigest: String
    /// How the inputs `tiles.0`, `tiles.1`, … become the clip; nil: it comes as `frames`.
    package var tiles: TileSources?

    package init(request: GenerationRequest, modelDigest: String, tiles: TileSources? = nil) {
        self.request = request
        self.modelDigest = modelDigest
        self.tiles = tiles
    }

    package var framesPerSecond: Int { request.framesPerSecond }
    package var container: OutputContainer { request.container }
    package var prompt: String { request.prompt }
}
