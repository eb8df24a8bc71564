import Diffusion
package import Failure

extension RequestDraft {
    /// What the request begins with, which must be what the model can begin with.
    ///
    /// Fails with `fields_conflict`, `source_missing` and `source_unsupported`.
    package func checkedConditioning(_ traits: ModelTraits) throws(Failure) -> Conditioning {
        let kinds: [String: Conditioning] = ["image": .image, "video": .video, "control_video": .control]
        let fields = [
            image.map { _ in "image" }, video.map { _ in "video" }, controlVideo.map { _ in "control_video" },
            attachment.flatMap { $0.field == "caption_of" ? nil : $0.field },
        ].compactMap(\.self)
        let given = fields.map { (kind: kinds[$0] ?? traits.referenceConditioning, field: $0) }
        guard given.count <= 1 else {
            throw Failure(
                "fields_conflict", "\(given[0].field) is given together with \(given[1].field).", field: given[1].field,
                remedy: "Give one of them.")
        }
        let kind = given.first?.kind ?? .text
        guard !traits.possibleConditioning.contains(kind) else { return kind }
        if let field = given.first?.field, kind != .text {
            throw Failure(
                "source_unsupported", "\(traits.name) cannot begin with \(kind == .image ? "an image" : "a clip").",
                field: field, remedy: traits.conditioningAdvice)
        }
        let field = traits.possibleConditioning.contains(.image) ? "image" : "control_video"
        throw Failure(
            "source_missing", "\(traits.name) makes no video from a prompt alone.", field: field,
            remedy: traits.conditioningAdvice)
    }

    /// The rate at which frames are taken of a clip, for a note and for whoever takes them.
    func checkSourceRate(_ conditioning: Conditioning) throws(Failure) {
        guard let rate = sourceFramesPerSecond else { return }
        guard conditioning == .video || conditioning == .control, RequestLimits.framesPerSecond.contains(rate) else {
            throw Failure(
                "source_fps_invalid", "source_fps is \(rate)\(conditioning == .image ? " for an image" : "").",
                field: "source_fps", remedy: "Use 1 to 120 with a clip, or leave it out to take its frames as they are."
            )
        }
    }

    func checkedFit(_ conditioning: Conditioning) throws(Failure) -> PictureFit? {
        guard conditioning != .text else {
            if fit == nil { return nil }
            throw Failure(
                "fields_conflict", "fit is given without an image or a video.", field: "fit", remedy: "Leave it out.")
        }
        return try choice(fit, "fit", code: "fit_unknown", default: PictureFit.stretch)
    }

    func checkedStrength(_ conditioning: Conditioning, steps: Int) throws(Failure) -> Double? {
        guard conditioning == .video else {
            if strength == nil { return nil }
            throw Failure(
                "fields_conflict", "strength is given without a video to make another of.", field: "strength",
                remedy: "Leave it out.")
        }
        let value = strength ?? 0.8
        _ = try Sampler.steps(ofStrength: value, of: steps)
        return value
    }

    /// Where a draft stops: before the last of the steps that run.
    func checkedStepsUntil(_ conditioning: Conditioning, steps: Int) throws(Failure) -> Int? {
        guard let stepsUntil else { return nil }
        let strength = try checkedStrength(conditioning, steps: steps)
        let count = try strength.map { (value) throws(Failure) in
            try Sampler.steps(ofStrength: value, of: steps)
        }
        guard stepsUntil >= 1, stepsUntil < count ?? steps else {
            throw Failure(
                "steps_until_out_of_range", "steps_until is \(stepsUntil) of \(count ?? steps) steps.",
                field: "steps_until",
                remedy: "Use a number from 1 to \((count ?? steps) - 1), or leave it out to make the whole video.")
        }
        return stepsUntil
    }

    func checkedDecodeWorkers() throws(Failure) -> Int? {
        guard let decodeWorkers else { return nil }
        guard RequestLimits.decodeWorkers.contains(decodeWorkers) else {
            throw Failure(
                "decode_workers_out_of_range", "decode_workers is \(decodeWorkers).", field: "decode_workers",
                remedy: "Use 1 to \(RequestLimits.decodeWorkers.upperBound), or leave it out.")
        }
        return decodeWorkers
    }

    func checkedImageLatentScale(_ conditioning: Conditioning, _ traits: ModelTraits) throws(Failure) -> Double? {
        guard conditioning == .image else {
            if imageLatentScale == nil { return nil }
            throw Failure(
                "fields_conflict", "image_latent_scale is given without an image.", field: "image_latent_scale",
                remedy: "Leave it out.")
        }
        let value = imageLatentScale ?? traits.imageLatentScale
        guard value > 0, value <= 100 else {
            throw Failure(
                "image_latent_scale_out_of_range", "image_latent_scale is \(value).", field: "image_latent_scale",
                remedy: "Use a value above 0; \(traits.imageLatentScale) is the model's.")
        }
        return value
    }
}

extension ModelTraits {
    /// What a file is that OpenAI's interface calls `input_reference`.
    var referenceConditioning: Conditioning { conditioning == .text ? .video : conditioning }

    /// What to give the model.
    var conditioningAdvice: String {
        switch conditioning {
        case .image: "Give it a prompt and an image."
        case .control: "Give it a prompt and a control_video."
        case .text, .video:
            possibleConditioning.contains(.video)
                ? "Give it a prompt, and a video if you like." : "Give it a prompt alone."
        }
    }
}
