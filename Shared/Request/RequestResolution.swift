import Checkpoint
import Diffusion
package import Failure

extension RequestDraft {
    /// The complete request: values checked against `traits`, defaults filled in from the model.
    ///
    /// Defaults: size, frames, steps, guidance, fps and sampler of the model; dynamic guidance off; float32; an mp4
    /// video; a random 32-bit seed, recorded. Every failure names field, value and remedy (codes in docs/errors.md).
    ///
    /// - Parameters:
    ///   - sourceFrames: how many frames the clip has that the request begins with; nil without one.
    ///   - randomSeed: draws the seed of a request that names none.
    package func resolved(
        for traits: ModelTraits, sourceFrames: Int? = nil,
        randomSeed: () -> UInt64 = { UInt64(UInt32.random(in: .min ... .max)) }
    ) throws(Failure) -> GenerationRequest {
        try checkModel(traits)
        let conditioning = try checkedConditioning(traits)
        try checkSourceRate(conditioning)
        let isCaptioned = try checkedCaption()
        let prompt = isCaptioned ? "" : try checkedPrompt()
        let negativePrompt = try checkedNegativePrompt()
        var notes: [String] = []
        let framesPerSecond = try checkedFramesPerSecond(traits)
        let size = try checkedSize(traits)
        let numFrames = try checkedFrames(
            traits, framesPerSecond: framesPerSecond, sourceFrames: sourceFrames, notes: &notes)
        try checkVolume(width: size.width, height: size.height, frames: numFrames)
        let steps = try checkedSteps(traits)
        let cache = try checkedStepCache(traits)
        return GenerationRequest(
            model: traits.name, prompt: prompt, negativePrompt: negativePrompt, width: size.width, height: size.height,
            numFrames: numFrames, framesPerSecond: framesPerSecond, numInferenceSteps: steps,
            guidanceScale: try checkedGuidance(traits), useDynamicCFG: useDynamicCFG ?? false,
            scheduler: try choice(
                scheduler, "scheduler", code: "scheduler_unknown", default: traits.defaultScheduler),
            seed: seed ?? randomSeed(), seedIsRandom: seed == nil,
            dtype: try choice(dtype, "dtype", code: "dtype_unknown", default: Precision.float32),
            container: try choice(container, "container", code: "container_unknown", default: OutputContainer.mp4),
            outputType: try choice(outputType, "output_type", code: "output_type_unknown", default: OutputType.video),
            upsamplePrompt: upsamplePrompt ?? false, allowUnsafeStepCount: allowUnsafeStepCount ?? false,
            keepStepLatents: keepStepLatents ?? false, keepFloatFrames: keepFloatFrames ?? false,
            useInitialLatents: initialLatents != nil, stepCache: cache?.method, stepCacheThreshold: cache?.threshold,
            stepCacheCoefficients: cache?.coefficients, stepCacheRange: cache?.range,
            conditioning: conditioning == .text ? nil : conditioning, fit: try checkedFit(conditioning),
            strength: try checkedStrength(conditioning, steps: steps),
            imageLatentScale: try checkedImageLatentScale(conditioning, traits),
            stepsUntil: try checkedStepsUntil(conditioning, steps: steps), decodeWorkers: try checkedDecodeWorkers(),
            loras: try checkedAdapters(), vaeTiling: vaeTiling == true ? true : nil,
            isCaptioned: isCaptioned ? true : nil, notes: notes)
    }

    // MARK: Text

    private func checkModel(_ traits: ModelTraits) throws(Failure) {
        guard let model, model != traits.name, model != traits.digest, model != "default" else { return }
        throw Failure(
            "model_unknown", "The model \"\(model.prefix(80))\" is not served here.", field: "model",
            remedy: "Use \"\(traits.name)\" or leave the field out.")
    }

    /// Whether the prompt is to be the caption of a clip, and then nobody else may write it.
    private func checkedCaption() throws(Failure) -> Bool {
        guard captionOf != nil || attachment?.field == "caption_of" else { return false }
        let other = (prompt ?? "").isEmpty ? upsamplePrompt == true ? "upsample_prompt" : nil : "prompt"
        if let other {
            throw Failure(
                "fields_conflict", "caption_of is given together with \(other).", field: other,
                remedy: "The clip's caption is the prompt: leave \(other) out.")
        }
        guard captionOf == nil || attachment?.field != "caption_of" else {
            throw Failure(
                "fields_conflict", "caption_of is given twice, as a file and as an id.", field: "caption_of",
                remedy: "Give one of them.")
        }
        return true
    }

    private func checkedPrompt() throws(Failure) -> String {
        guard let prompt, prompt.contains(where: { !$0.isWhitespace }) else {
            throw Failure(
                "prompt_missing", prompt == nil ? "There is no prompt." : "The prompt is empty.", field: "prompt",
                remedy: "Describe the video in English.")
        }
        return try checkedText(prompt, "prompt")
    }

    private func checkedNegativePrompt() throws(Failure) -> String {
        try checkedText(negativePrompt ?? "", "negative_prompt")
    }

    private func checkedText(_ text: String, _ field: String) throws(Failure) -> String {
        let count = text.utf8.count
        guard count <= RequestLimits.promptBytes else {
            throw Failure(
                "prompt_too_long", "\(field) has \(count) bytes; the limit is \(RequestLimits.promptBytes).",
                field: field,
                remedy: "Shorten it; the model reads a few hundred words at most.")
        }
        guard !text.utf8.contains(0) else {
            throw Failure(
                "prompt_invalid", "\(field) contains a NUL character.", field: field, remedy: "Remove the character.")
        }
        return text
    }

    func choice<Choice: RawRepresentable & CaseIterable>(
        _ text: String?, _ field: String, code: String, default fallback: Choice
    ) throws(Failure) -> Choice where Choice.RawValue == String {
        guard let text else { return fallback }
        guard let value = Choice(rawValue: text) else {
            let known = Choice.allCases.map(\.rawValue).joined(separator: ", ")
            throw Failure(code, "\(field) is \"\(text.prefix(80))\".", field: field, remedy: "Use one of: \(known).")
        }
        return value
    }

    /// `original` as another file: its latents are decoded and muxed again, nothing else can change.
    ///
    /// Fails with `reencode_fixed` for any field but `container`, `fps` and `vae_tiling`, with `container_unknown`, `fps_out_of_range`,
    /// and with `model_unknown` when another model than the one of `traits` made the latents.
    package func reencoding(
        _ original: GenerationRequest, traits: ModelTraits
    ) throws(Failure) -> GenerationRequest {
        var rest = self
        rest.container = nil
        rest.framesPerSecond = nil
        rest.vaeTiling = nil
        guard rest == RequestDraft() else {
            throw Failure(
                "reencode_fixed", "Only container, fps and vae_tiling can change when a video is encoded again.",
                remedy: "Make a new video for anything else: the latents are those of the first.")
        }
        guard original.model == traits.name else {
            throw Failure(
                "model_unknown", "The video was made by \(original.model), and \(traits.name) is served here.",
                field: "model", remedy: "Ask a gateway that serves the model.")
        }
        var request = original
        request.container = try choice(
            container, "container", code: "container_unknown", default: original.container)
        if framesPerSecond != nil { request.framesPerSecond = try checkedFramesPerSecond(traits) }
        if let vaeTiling { request.vaeTiling = vaeTiling ? true : nil }
        request.outputType = .video
        request.keepFloatFrames = false
        request.keepStepLatents = false
        return request
    }

    // MARK: Size

    private func checkedSize(_ traits: ModelTraits) throws(Failure) -> (width: Int, height: Int) {
        var asked = (width: width, height: height)
        if let size {
            guard width == nil, height == nil else {
                throw Failure(
                    "fields_conflict", "size is given together with width or height.", field: "size",
                    remedy: "Give either size or width and height.")
            }
            let parts = size.split(separator: "x", omittingEmptySubsequences: false)
            guard parts.count == 2, let first = Int(parts[0]), let second = Int(parts[1]) else {
                throw Failure(
                    "size_invalid", "size is \"\(size.prefix(40))\".", field: "size",
                    remedy: "Write width, an x and height, such as \(traits.nativeWidth)x\(traits.nativeHeight).")
            }
            asked = (first, second)
        }
        let result = (width: asked.width ?? traits.nativeWidth, height: asked.height ?? traits.nativeHeight)
        try checkSide(result.width, size == nil ? "width" : "size", traits)
        try checkSide(result.height, size == nil ? "height" : "size", traits)
        guard !traits.hasFixedSize || result == (traits.nativeWidth, traits.nativeHeight) else {
            throw Failure(
                "size_fixed_by_model", "\(traits.name) cannot make \(result.width)x\(result.height).", field: "size",
                remedy: "Its learned positions allow \(traits.nativeWidth)x\(traits.nativeHeight) only.")
        }
        return result
    }

    private func checkSide(_ pixels: Int, _ field: String, _ traits: ModelTraits) throws(Failure) {
        let divisor = traits.sizeDivisor
        guard pixels >= divisor else {
            throw Failure(
                "size_too_small", "\(field) has a side of \(pixels) pixels.", field: field,
                remedy: "Use at least \(divisor); the native size is \(traits.nativeWidth)x\(traits.nativeHeight).")
        }
        guard pixels <= RequestLimits.sidePixels else {
            throw Failure(
                "size_too_large", "\(field) has a side of \(pixels) pixels.", field: field,
                remedy: "Use at most \(RequestLimits.sidePixels).")
        }
        guard pixels % divisor == 0 else {
            let below = pixels / divisor * divisor
            let code = divisor == 16 ? "size_not_multiple_of_16" : "size_not_multiple_of_\(divisor)"
            throw Failure(
                code, "\(field) has a side of \(pixels) pixels, which is not a multiple of \(divisor).", field: field,
                remedy: "Use \(below) or \(below + divisor).")
        }
    }

    /// What would not fit through the data plane as float32 frames is refused before anything is computed.
    private func checkVolume(width: Int, height: Int, frames: Int) throws(Failure) {
        let bytes = width * height * frames * 3 * 4
        guard bytes <= 8 << 30 else {
            throw Failure(
                "video_too_large", "\(frames) frames of \(width)x\(height) are \(bytes >> 20) MiB of decoded video.",
                field: "num_frames", remedy: "Stay below \(8 << 10) MiB: fewer frames or a smaller size.")
        }
    }

    // MARK: Frames

    private func checkedFramesPerSecond(_ traits: ModelTraits) throws(Failure) -> Int {
        let value = framesPerSecond ?? traits.defaultFramesPerSecond
        guard RequestLimits.framesPerSecond.contains(value) else {
            throw Failure(
                "fps_out_of_range", "fps is \(value).", field: "fps",
                remedy: "Use 1 to 120; \(traits.name) was trained at \(traits.defaultFramesPerSecond).")
        }
        return value
    }

    private func checkedFrames(
        _ traits: ModelTraits, framesPerSecond: Int, sourceFrames: Int?, notes: inout [String]
    ) throws(Failure) -> Int {
        var count = numFrames ?? traits.frames(of: sourceFrames)
        defer {
            if let sourceFrames, count < sourceFrames {
                notes.append("source_trimmed: the first \(count) of \(sourceFrames) frames were taken")
            }
        }
        if let seconds {
            guard numFrames == nil else {
                throw Failure(
                    "fields_conflict", "seconds is given together with num_frames.", field: "seconds",
                    remedy: "Give one of them.")
            }
            count = try frames(lasting: seconds, traits, framesPerSecond: framesPerSecond)
            notes.append("seconds \(seconds) at \(framesPerSecond) fps led to num_frames \(count)")
        }
        guard traits.canMake(frames: count) else {
            let nearest = traits.nearestFrameCounts(count).map(String.init).joined(separator: " or ")
            throw Failure(
                "frame_count_unsupported",
                "num_frames is \(count); \(traits.name) makes one frame more than a multiple of \(traits.frameStride).",
                field: "num_frames", remedy: "Use \(nearest).")
        }
        guard count <= sourceFrames ?? count else {
            throw Failure(
                "source_too_short", "num_frames is \(count) and the clip has \(sourceFrames ?? 0) frames.",
                field: "num_frames", remedy: "Use \(traits.frames(of: sourceFrames)) or a longer clip.")
        }
        guard !traits.hasFixedSize || count == traits.nativeFrames else {
            throw Failure(
                "frame_count_fixed_by_model", "\(traits.name) cannot make \(count) frames.",
                field: "num_frames", remedy: "Its learned positions allow \(traits.nativeFrames) only.")
        }
        return count
    }

    private func frames(lasting seconds: Int, _ traits: ModelTraits, framesPerSecond: Int) throws(Failure) -> Int {
        let stride = traits.frameStride
        guard RequestLimits.seconds.contains(seconds) else {
            throw Failure(
                "seconds_out_of_range", "seconds is \(seconds).", field: "seconds", remedy: "Use 1 or more.")
        }
        let count = (seconds * framesPerSecond - 1 + stride - 1) / stride * stride + 1
        guard count <= RequestLimits.frames else {
            throw Failure(
                "seconds_out_of_range",
                "\(seconds) seconds at \(framesPerSecond) fps are \(count) frames; the limit is \(RequestLimits.frames).",
                field: "seconds", remedy: "Use \(RequestLimits.frames / framesPerSecond) seconds or fewer.")
        }
        return count
    }

    // MARK: Sampling

    private func checkedSteps(_ traits: ModelTraits) throws(Failure) -> Int {
        let count = numInferenceSteps ?? traits.defaultSteps
        let limit = traits.schedulerConfig.numTrainTimesteps
        guard (1...limit).contains(count) else {
            throw Failure(
                "num_inference_steps_out_of_range", "num_inference_steps is \(count).", field: "num_inference_steps",
                remedy: "Use 1 to \(limit); \(traits.defaultSteps) is the default.")
        }
        let schedule = TimestepSchedule(config: traits.schedulerConfig)
        guard schedule.isSafe(stepCount: count) || allowUnsafeStepCount == true else {
            let nearest = schedule.nearestSafe(count).map(String.init).joined(separator: " or ")
            let advice = nearest.isEmpty ? "Set" : "Use \(nearest), or set"
            throw Failure(
                "num_inference_steps_unsafe",
                "num_inference_steps is \(count); with that count the sampler skips noise levels or ends on a noisy video.",
                field: "num_inference_steps", remedy: "\(advice) allow_unsafe_steps.")
        }
        return count
    }

    private func checkedGuidance(_ traits: ModelTraits) throws(Failure) -> Double {
        let value = guidanceScale ?? traits.defaultGuidanceScale
        guard RequestLimits.guidanceScale.contains(value) else {
            throw Failure(
                "guidance_scale_out_of_range", "guidance_scale is \(value).", field: "guidance_scale",
                remedy: "Use 0 to 100; \(traits.defaultGuidanceScale) is the default, 1 turns guidance off.")
        }
        return value
    }
}
