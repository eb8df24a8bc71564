package import Checkpoint
package import Diffusion
package import Failure

/// What a model can make and what it makes by default: all that a request needs to know of a model folder.
package struct ModelTraits: Sendable, Hashable, Codable {
    /// The folder's name, for people and for the `model` field of a request.
    package var name: String
    /// Hexadecimal SHA-256 of the whole folder: the `model` of tasks and capabilities.
    package var digest: String
    package var nativeWidth: Int
    package var nativeHeight: Int
    package var nativeFrames: Int
    package var defaultSteps: Int
    package var defaultGuidanceScale: Double
    package var defaultFramesPerSecond: Int
    package var defaultScheduler: SamplerKind
    /// Width and height must be multiples of this: pixels per latent × latents per patch (16 in every release).
    package var sizeDivisor: Int
    /// Pixels per latent in width and height.
    package var spatialCompressionRatio: Int
    /// Frames per latent frame.
    package var temporalCompressionRatio: Int
    /// Latent frames must be a multiple of this: 1 in CogVideoX 1.0, 2 in CogVideoX 1.5.
    package var latentFramesPerPatch: Int
    package var latentChannels: Int
    /// Tokens of a prompt that the model reads, the end mark included.
    package var maxTextTokens: Int
    /// Learned position embeddings exist for the native size and frame count only.
    package var hasFixedSize: Bool
    /// What a request must begin with.
    package var conditioning: Conditioning
    /// What the autoencoder's latents are multiplied by for the diffusion process.
    package var latentScale: Double
    /// What those of an image are multiplied by: CogVideoX 1.5 divides.
    package var imageLatentScale: Double
    package var schedulerConfig: SchedulerConfig
    /// What the autoencoder cuts clips into where that is asked for.
    package var tiling: AutoencoderTiling
    /// TeaCache's polynomial for this model, highest power first: what `zoetrope.json` names, or the published one of a
    /// model of released shape. Nil where there is none.
    package var teaCacheCoefficients: [Double]?
    /// How latents look, where the folder's `zoetrope.json` knows it: previews of running jobs need it.
    package var latentColors: LatentColors?

    /// Reads the traits of an opened folder.
    ///
    /// - Parameter digest: the folder's digest where it is known; nil computes it from the files (and caches it).
    ///
    /// Fails with `model_pipeline_unsupported` for checkpoints that read more than latents, an image or a control video,
    /// with `model_config_invalid` for a wrong `zoetrope.json`, and as `ModelFolder.digest()` does.
    package init(folder: ModelFolder, digest: String? = nil) throws(Failure) {
        let transformer = folder.transformer
        conditioning = try Self.conditioning(folder)
        guard let sampler = SamplerKind(className: folder.scheduler.className) else {
            throw Failure(
                "model_config_invalid", "The scheduler \(folder.scheduler.className) is not known.",
                field: "scheduler/scheduler_config.json: _class_name")
        }
        let defaults = try NativeDefaults(folder: folder.path)
        let isVersion15 = transformer.patchSizeT != nil
        name = folder.name
        if let digest { self.digest = digest } else { self.digest = try folder.digest() }
        spatialCompressionRatio = folder.vae.spatialCompressionRatio
        sizeDivisor = spatialCompressionRatio * transformer.patchSize
        let native = Self.nativeSize(transformer, pixelsPerLatent: spatialCompressionRatio)
        nativeWidth = native.width
        nativeHeight = native.height
        nativeFrames = transformer.sampleFrames
        defaultSteps = defaults.numInferenceSteps ?? 50
        defaultGuidanceScale = defaults.guidanceScale ?? 6
        defaultFramesPerSecond = defaults.framesPerSecond ?? (isVersion15 ? 16 : 8)
        defaultScheduler = sampler
        temporalCompressionRatio = transformer.temporalCompressionRatio
        latentFramesPerPatch = transformer.patchSizeT ?? 1
        latentChannels = folder.vae.latentChannels
        maxTextTokens = transformer.maxTextSeqLength
        hasFixedSize = transformer.useLearnedPositionalEmbeddings
        latentScale = folder.vae.scalingFactor
        imageLatentScale = folder.vae.invertScaleLatents ? 1 / folder.vae.scalingFactor : folder.vae.scalingFactor
        schedulerConfig = folder.scheduler
        tiling = AutoencoderTiling(folder.vae)
        teaCacheCoefficients = defaults.teaCacheCoefficients ?? TeaCacheCoefficients.published(for: transformer)
        latentColors = try LatentColors.of(folder)
    }

    private static func conditioning(_ folder: ModelFolder) throws(Failure) -> Conditioning {
        let channels = folder.vae.latentChannels, inputs = folder.transformer.inChannels
        switch (folder.pipelineClass, inputs) {
        case ("CogVideoXPipeline", channels), ("CogVideoXVideoToVideoPipeline", channels): return .text
        case ("CogVideoXImageToVideoPipeline", 2 * channels): return .image
        case ("CogVideoXFunControlPipeline", 2 * channels): return .control
        default:
            throw Failure(
                "model_pipeline_unsupported",
                "\(folder.name) is a \(folder.pipelineClass) with \(inputs) input channels for \(channels) latent channels.",
                field: "model",
                remedy: "Use a checkpoint for text, image or control video, such as CogVideoX-2b, -5b-I2V or 1.5-5B.")
        }
    }

    /// What a request may begin with. CogVideoX 1.5 pads the latent frames of a clip, which a given clip does not have.
    package var possibleConditioning: Set<Conditioning> {
        guard conditioning == .text else { return [conditioning] }
        return latentFramesPerPatch == 1 ? [.text, .video] : [.text]
    }

    /// Published 1.5 configurations name 300×300 latents, which is no size anyone should make; where the named size is
    /// beyond what 1.5 was trained for, its real native size stands in.
    private static func nativeSize(
        _ transformer: Transformer3DConfig, pixelsPerLatent: Int
    ) -> (width: Int, height: Int) {
        let width = transformer.sampleWidth * pixelsPerLatent
        let height = transformer.sampleHeight * pixelsPerLatent
        guard transformer.patchSizeT != nil, max(width, height) > 1360 else { return (width, height) }
        return (1360, 768)
    }

    // MARK: Frame counts

    /// Latent frames of a clip of `numFrames` frames, before padding to whole patches.
    package func latentFrames(_ numFrames: Int) -> Int { (numFrames - 1) / temporalCompressionRatio + 1 }

    /// Latent frames that the denoiser works on: padded to whole patches (CogVideoX 1.5 drops the padding before decoding).
    package func paddedLatentFrames(_ numFrames: Int) -> Int {
        let count = latentFrames(numFrames)
        return (count + latentFramesPerPatch - 1) / latentFramesPerPatch * latentFramesPerPatch
    }

    /// Frames from one possible count to the next. The decoder makes 4 frames of every latent frame but, of an odd
    /// number of latent frames, 1 of the first: only then does the clip have the frames that were asked for.
    package var frameStride: Int { 2 * temporalCompressionRatio }

    /// Whether the model makes exactly this many frames: one more than a multiple of `frameStride`.
    package func canMake(frames: Int) -> Bool {
        (1...RequestLimits.frames).contains(frames) && (frames - 1) % frameStride == 0
    }

    /// The possible frame counts next to `frames`, lowest first; at most two.
    package func nearestFrameCounts(_ frames: Int) -> [Int] {
        let last = (RequestLimits.frames - 1) / frameStride * frameStride + 1
        guard frames > 1 else { return [1, 1 + frameStride] }
        guard frames < last else { return [last] }
        let below = (frames - 1) / frameStride * frameStride + 1
        return [below, below + frameStride]
    }

    /// The frames of a clip when nobody says how many: as many as the source has, if there is one, else the native count.
    package func frames(of sourceFrames: Int?) -> Int {
        guard let sourceFrames, !hasFixedSize else { return nativeFrames }
        return max(1, min(sourceFrames, RequestLimits.frames) - 1) / frameStride * frameStride + 1
    }

    // MARK: Latents

    /// The shape [1, F, C, h, w] of the latents, padding included.
    package func latentShape(width: Int, height: Int, numFrames: Int) -> [Int] {
        [
            1, paddedLatentFrames(numFrames), latentChannels, height / spatialCompressionRatio,
            width / spatialCompressionRatio,
        ]
    }

    /// The shape [1, F, C, h, w] of the latents of `request`, which initial latents must have.
    package func latentShape(for request: GenerationRequest) -> [Int] {
        latentShape(width: request.width, height: request.height, numFrames: request.numFrames)
    }
}
