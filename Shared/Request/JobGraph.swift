package import Failure
package import Tensor
package import Wire

/// Stage names as workers announce them.
package enum StageName: String, Sendable, Hashable, CaseIterable {
    case promptUpsampler = "prompt-upsampler"
    case textEncoder = "text-encoder"
    case vaeEncoder = "vae-encoder"
    case denoiser
    case vaeDecoder = "vae-decoder"
    case videoMuxer = "video-muxer"

    /// The stages that a job with this output needs, in the order of the work; upsampler and encoder are extra.
    package static func needed(for outputType: OutputType) -> [StageName] {
        switch outputType {
        case .latent: [.textEncoder, .denoiser]
        case .frames: [.textEncoder, .denoiser, .vaeDecoder]
        case .video: [.textEncoder, .denoiser, .vaeDecoder, .videoMuxer]
        }
    }
}

/// Turns a request into the tasks that the broker hands out.
///
/// | task | stage | inputs | outputs |
/// |---|---|---|---|
/// | `upsample` | prompt-upsampler | – | `prompt` u8 |
/// | `caption` | prompt-upsampler | `frames` [T,H,W,3] u8 | `prompt` u8 |
/// | `encode` | text-encoder | `prompt`? | `input_ids` [1,L] i32, `prompt_embeds` [1,L,D], `negative_prompt_embeds`? |
/// | `condition` | vae-encoder | `pixels` [T,H,W,3] u8 | `condition_latents` [1,F,C,h,w] f32 |
/// | `denoise` | denoiser | `prompt_embeds`, `negative_prompt_embeds`?, `condition_latents`?, `init_latents`?, `state`? | `latents` [1,F,C,h,w] f32, `latents_steps`? |
/// | `decode` | vae-decoder | `latents` | `frames` [T,H,W,3] u8, `frames_float32`? [1,T,H,W,3] |
/// | `decode.R.C` instead, of a video in tiles | vae-decoder | `latents` | `tiles` [n] f32 or bf16 |
/// | `mux` | video-muxer | `frames`, or `tiles.0`, `tiles.1`, …; `prompt`? | `video`, `contact_sheet`, `thumbnail` u8 |
package enum JobGraph {
    /// The SUBMIT for `request`.
    ///
    /// - Parameters:
    ///   - initialLatents: stored noise [1,F,C,h,w] float32, exactly when `request.useInitialLatents`.
    ///   - pixels: the stored picture or clip [T,H,W,3] u8 of the request's size, exactly when it begins with one.
    ///   - source: which file the pixels are of, for the record.
    ///   - upsamplerAvailable: whether a prompt upsampler serves; without one the prompt goes in unchanged and the
    ///     specification's notes say so.
    ///   - caption: the clip that the prompt is to be written of, exactly when the request is captioned.
    ///   - variant: which of several videos of one request this is; nil where it is the only one.
    ///   - idempotencyKey: at most 128 bytes; empty for none.
    ///   - tenant: whose turn the job takes.
    ///   - priority: higher goes first.
    ///   - deadlineMilliseconds: from acceptance on; 0 for none.
    ///
    /// Fails with `init_latents_misshapen`, `pixels_misshapen`, `idempotency_key_invalid`, or `prompt_too_long` when the
    /// prompts written as JSON would not fit a bus message.
    package static func submit(
        for request: GenerationRequest, traits: ModelTraits, initialLatents: TensorRef? = nil,
        pixels: TensorRef? = nil, source: RequestInput? = nil, upsamplerAvailable: Bool = true,
        caption: Caption? = nil, variant: String? = nil, idempotencyKey: String = "", tenant: String = "",
        priority: Int32 = 0, deadlineMilliseconds: UInt64 = 0
    ) throws(Failure) -> Submit {
        try check(initialLatents, request, traits)
        try check(pixels: pixels, request)
        try check(caption, request)
        guard idempotencyKey.utf8.count <= RequestLimits.idempotencyKeyBytes, !idempotencyKey.utf8.contains(0) else {
            throw Failure(
                "idempotency_key_invalid", "The idempotency key has \(idempotencyKey.utf8.count) bytes.",
                field: "Idempotency-Key", remedy: "Use at most \(RequestLimits.idempotencyKeyBytes) bytes of text.")
        }
        let upsampling = request.upsamplePrompt && upsamplerAvailable
        var recorded = request
        recorded.inputs = inputs(source, pixels: pixels, initialLatents: initialLatents, caption: caption)
        if request.upsamplePrompt && !upsampling {
            recorded.notes.append("prompt_unchanged: no prompt upsampler is connected")
        }
        let submit = Submit(
            idempotencyKey: idempotencyKey,
            requestDigest: try digest(
                of: request, model: traits.digest, initialLatents: initialLatents?.digest,
                pixels: pixels?.digest, caption: caption?.frames.digest, variant: variant),
            tenant: tenant, priority: priority, specification: try CanonicalJSON.encode(recorded),
            tasks: try tasks(
                for: recorded, traits: traits, initialLatents: initialLatents, pixels: pixels, upsampling: upsampling,
                caption: caption?.frames),
            deadlineMilliseconds: deadlineMilliseconds)
        try checkSize(submit)
        return submit
    }

    /// The SUBMIT that makes another file of latents that a job has left: decode and mux, no denoising.
    ///
    /// - Parameters:
    ///   - request: what `RequestDraft.reencoding` made of the first job's.
    ///   - latents: the first job's final latents in the store; they stay there as long as the new job does.
    ///   - source: the first job, for the notes.
    ///   - prompt: the text that another stage wrote for the first job, if one did.
    ///
    /// Fails as `submit` does.
    package static func reencode(
        _ request: GenerationRequest, latents: TensorRef, of source: String, prompt: TensorRef? = nil,
        traits: ModelTraits,
        idempotencyKey: String = "", tenant: String = "", priority: Int32 = 0, deadlineMilliseconds: UInt64 = 0
    ) throws(Failure) -> Submit {
        var recorded = request
        recorded.notes.append("reencoded: from the latents of \(source)")
        let submit = Submit(
            idempotencyKey: idempotencyKey,
            requestDigest: try digest(of: request, model: traits.digest, initialLatents: latents.digest),
            tenant: tenant, priority: priority, specification: try CanonicalJSON.encode(recorded),
            tasks: try pictures(recorded, traits, latents: .blob(latents), prompt: prompt.map { .blob($0) }),
            deadlineMilliseconds: deadlineMilliseconds)
        try checkSize(submit)
        return submit
    }

    /// The SUBMIT that goes on where a draft stopped, with its embeddings and its state: the same bits as a job that did
    /// not stop.
    ///
    /// - Parameters:
    ///   - draft: the draft's request.
    ///   - outputs: what the draft has stored, by task and output (`denoise.state`).
    ///   - source: the draft's job, for the notes.
    ///
    /// Fails with `nothing_to_continue` when the job was no draft or lacks what is needed, and as `submit` does.
    package static func continued(
        _ draft: GenerationRequest, outputs: [String: TensorRef], of source: String, traits: ModelTraits,
        idempotencyKey: String = "", tenant: String = "", priority: Int32 = 0, deadlineMilliseconds: UInt64 = 0
    ) throws(Failure) -> Submit {
        guard draft.model == traits.name else {
            throw Failure(
                "model_unknown", "The draft was made by \(draft.model), and \(traits.name) is served here.",
                field: "model", remedy: "Ask a gateway that serves the model.")
        }
        var stored = ["state": outputs["denoise.state"], "prompt_embeds": outputs["encode.prompt_embeds"]]
        if draft.usesGuidance { stored["negative_prompt_embeds"] = outputs["encode.negative_prompt_embeds"] }
        if draft.conditioning != nil { stored["condition_latents"] = outputs["condition.condition_latents"] }
        let known = stored.compactMapValues(\.self)
        guard let steps = draft.stepsUntil, let state = known["state"], known.count == stored.count else {
            throw Failure(
                "nothing_to_continue",
                draft.stepsUntil == nil
                    ? "The job is no draft: it runs to its end." : "The draft has not come so far yet.",
                field: "id", remedy: "Name a job that was made with steps_until and is completed.")
        }
        var request = draft
        request.stepsUntil = nil
        request.notes.append("continued: from step \(steps) of \(source)")
        let denoise = try denoise(request, traits, from: DenoiseSources(stored: known))
        let prompt = writtenPrompt(in: outputs).map { InputSource.blob($0) }
        let tasks = [denoise] + (try pictures(request, traits, prompt: prompt))
        let submit = Submit(
            idempotencyKey: idempotencyKey,
            requestDigest: try digest(of: request, model: traits.digest, initialLatents: state.digest),
            tenant: tenant, priority: priority, specification: try CanonicalJSON.encode(request), tasks: tasks,
            deadlineMilliseconds: deadlineMilliseconds)
        try checkSize(submit)
        return submit
    }

    /// SHA-256 over the canonical JSON of the request, the model, the initial latents and the pixels: equal for requests that mean
    /// the same. A seed drawn at random does not count, so that a repeated request without a seed is the same request;
    /// nor do notes.
    package static func digest(
        of request: GenerationRequest, model: String, initialLatents: Digest? = nil, pixels: Digest? = nil,
        caption: Digest? = nil, variant: String? = nil
    ) throws(Failure) -> Digest {
        struct Identity: Encodable {
            let request: GenerationRequest
            let model: String
            let initialLatents: String
            let pixels: String?
            let caption: String?
            let variant: String?
        }
        var stable = request
        if stable.seedIsRandom { stable.seed = 0 }
        stable.notes = []
        // They are named by the digests beside.
        stable.inputs = nil
        let identity = Identity(
            request: stable, model: model, initialLatents: initialLatents.map(\.description) ?? "",
            pixels: pixels.map(\.description), caption: caption.map(\.description), variant: variant)
        return Digest.of(Array(try CanonicalJSON.encode(identity).utf8))
    }

    /// The prompt that another stage wrote for a job, by the names of what that job has stored.
    package static func writtenPrompt(in outputs: [String: TensorRef]) -> TensorRef? {
        outputs["caption.prompt"] ?? outputs["upsample.prompt"]
    }

    /// What the request begins with, for its specification; nil: nothing.
    private static func inputs(
        _ source: RequestInput?, pixels: TensorRef?, initialLatents: TensorRef?, caption: Caption?
    ) -> [RequestInput]? {
        var inputs: [RequestInput] = []
        if var source {
            source.content = pixels?.digest.description
            inputs.append(source)
        }
        if let initialLatents {
            inputs.append(RequestInput(field: "init_latents", content: initialLatents.digest.description))
        }
        if let caption {
            inputs.append(
                RequestInput(field: "caption_of", file: caption.file, content: caption.frames.digest.description))
        }
        return inputs.isEmpty ? nil : inputs
    }

    /// Whether noise of this type and shape can start `request`; the remedy names the shape that can.
    package static func checkInitialLatents(
        dtype: DType, shape: [Int], for request: GenerationRequest, traits: ModelTraits
    ) throws(Failure) {
        let expected = traits.latentShape(for: request)
        guard dtype == .float32, shape == expected else {
            throw Failure(
                "init_latents_misshapen", "The initial latents are \(dtype) \(shape).", field: "init_latents",
                remedy: "Give float32 \(expected): [1, latent frames, channels, height, width].")
        }
    }

    private static func check(
        _ initialLatents: TensorRef?, _ request: GenerationRequest, _ traits: ModelTraits
    ) throws(Failure) {
        guard request.useInitialLatents == (initialLatents != nil) else {
            throw Failure(
                "init_latents_misshapen",
                request.useInitialLatents
                    ? "The request starts from initial latents, but there are none."
                    : "There are initial latents, but the request does not use them.",
                field: "init_latents")
        }
        guard let initialLatents else { return }
        try checkInitialLatents(dtype: initialLatents.dtype, shape: initialLatents.shape, for: request, traits: traits)
    }

    private static func check(pixels: TensorRef?, _ request: GenerationRequest) throws(Failure) {
        let kind = request.conditioning
        let expected = kind.map { [$0 == .image ? 1 : request.numFrames, request.height, request.width, 3] }
        guard pixels?.shape == expected, pixels?.dtype ?? .uint8 == .uint8 else {
            throw Failure(
                "pixels_misshapen",
                "The pixels are \(pixels.map { "\($0.dtype) \($0.shape)" } ?? "missing"), and the request needs "
                    + "\(expected.map { "uint8 \($0)" } ?? "none").",
                field: kind?.rawValue ?? "image")
        }
    }

    private static func check(_ caption: Caption?, _ request: GenerationRequest) throws(Failure) {
        let shape = caption?.frames.shape ?? [1, 1, 1, 3]
        guard (caption != nil) == (request.isCaptioned == true), shape.count == 4, shape[3] == 3,
            (1...RequestLimits.captionFrames).contains(shape[0]), caption?.frames.dtype ?? .uint8 == .uint8
        else {
            throw Failure(
                "pixels_misshapen",
                "The frames to caption are \(caption.map { "\($0.frames.dtype) \($0.frames.shape)" } ?? "missing").",
                field: "caption_of")
        }
    }

    /// A clip whose caption becomes the prompt.
    package struct Caption: Sendable, Hashable {
        /// Some frames of it, stored, uint8 `[T, H, W, 3]`.
        package var frames: TensorRef
        /// SHA-256 of the clip's file.
        package var file: String

        package init(frames: TensorRef, file: String) {
            self.frames = frames
            self.file = file
        }
    }

    /// Prompts grow when written as JSON (a control character takes six bytes), so the limit that counts is the bus's.
    private static func checkSize(_ submit: Submit) throws(Failure) {
        let parameters = submit.tasks.map(\.parameters.utf8.count)
        let total = parameters.reduce(submit.specification.utf8.count, +)
        // Names, digests and places of inputs; those of many tiles come to more.
        let room = Limits.controlFrameBytes - 4096 - 512 * max(0, submit.tasks.count - 8)
        guard submit.specification.utf8.count <= Limits.specificationBytes,
            parameters.allSatisfy({ $0 <= Limits.parameterBytes }), total <= room
        else {
            throw Failure(
                "prompt_too_long",
                "prompt and negative_prompt together make a job description of \(total) bytes; the limit is \(room), "
                    + "and \(Limits.parameterBytes) for one stage.",
                field: "prompt", remedy: "Shorten them; the model reads a few hundred words at most.")
        }
    }
}
