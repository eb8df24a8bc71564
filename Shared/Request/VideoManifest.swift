import Diffusion
package import Failure
import FoundationEssentials

/// What a video file says about how it was made: all that is needed to make it again, and to tell whether that came out
/// the same. Travels as canonical JSON in the file's `comment`.
///
/// Nothing in it changes from run to run: no job ids, no dates, no names of machines.
package struct VideoManifest: Sendable, Hashable, Codable {
    package static let currentVersion = 1
    /// Bytes of a manifest that are read at most; a real one has a few KiB and the prompts.
    package static let limitBytes = 256 * 1024
    /// The task that decodes a clip as a whole (`JobGraph`).
    package static let decodeTask = "decode"

    package struct Model: Sendable, Hashable, Codable {
        package var name: String
        /// Hexadecimal SHA-256 of the model folder.
        package var digest: String
    }

    /// How one task was computed.
    package struct Arithmetic: Sendable, Hashable, Codable {
        /// The backend, the instruction set and the version of its sums, as workers announce them.
        package var name: String
        /// True when the task went on from a checkpoint of other arithmetic; absent otherwise.
        package var mixed: Bool?
        /// True when a decoder worked in tiles because it had too little memory, and the request has no field that asks
        /// for the same; absent otherwise.
        package var tiled: Bool?

        package init(name: String, mixed: Bool? = nil, tiled: Bool? = nil) {
            self.name = name
            self.mixed = mixed
            self.tiled = tiled
        }
    }

    /// Where the prompt came from when the user did not write it.
    package struct PromptOrigin: Sendable, Hashable, Codable {
        /// `upsampled` or `caption`.
        package var kind: String
        /// What the user wrote; absent for a caption.
        package var from: String?

        package init(kind: String, from: String? = nil) {
            self.kind = kind
            self.from = from
        }
    }

    /// The version of this format.
    package var manifest: Int
    /// Name and version of the program.
    package var generator: String
    package var model: Model
    /// What was asked, every default filled in, with the prompt that the text encoder read and the number of decoders
    /// that really shared the decode, where that is not one: asking for it gives the same bits.
    package var request: GenerationRequest
    package var promptOrigin: PromptOrigin?
    /// By task; tasks that another job had done before are missing.
    package var arithmetic: [String: Arithmetic]
    /// Versions of the libraries that encoded the file.
    package var libraries: [String: String]
    /// Hexadecimal SHA-256 of the decoded frames `[T, H, W, 3]` uint8, before they were encoded.
    package var framesDigest: String

    enum CodingKeys: String, CodingKey {
        case manifest, generator, model, request, arithmetic, libraries
        case promptOrigin = "prompt_origin"
        case framesDigest = "frames_sha256"
    }

    /// The manifest of a file whose frames have `framesDigest`.
    ///
    /// - Parameters:
    ///   - prompt: what the text encoder read where another stage wrote it; nil: the request's.
    ///   - decode: how the clip was decoded; nil where nobody knows, which leaves the request as it was.
    ///   - version: of the program that writes the file.
    package init(
        _ parameters: MuxParameters, prompt: String?, decode: DecodeManner? = nil, arithmetic: [String: Arithmetic],
        libraries: [String: String], framesDigest: String, version: String
    ) {
        manifest = Self.currentVersion
        generator = "zoetrope \(version)"
        model = Model(name: parameters.request.model, digest: parameters.modelDigest)
        request = parameters.request.asMade(prompt: prompt)
        if let prompt {
            let isCaption = parameters.request.isCaptioned == true
            promptOrigin =
                prompt == parameters.prompt
                ? nil
                : PromptOrigin(kind: isCaption ? "caption" : "upsampled", from: isCaption ? nil : parameters.prompt)
        }
        self.arithmetic = arithmetic
        if let decode, !request.asMade(decode) { self.arithmetic[Self.decodeTask]?.tiled = true }
        self.libraries = libraries
        self.framesDigest = framesDigest
    }

    /// Canonical JSON.
    package func encoded() throws(Failure) -> String { try CanonicalJSON.encode(self) }

    /// Reads what a file's comment says. It may come from anybody: nothing in it is taken further than through the
    /// checks of every request.
    ///
    /// Fails with `manifest_missing` for a file without one, `manifest_newer` and `manifest_invalid`.
    package init(comment: String?) throws(Failure) {
        struct Version: Decodable { var manifest: Int? }
        guard let comment, !comment.isEmpty else { throw Self.missing("The file has no comment.") }
        guard comment.utf8.count <= Self.limitBytes else {
            throw Self.invalid("it has \(comment.utf8.count) bytes, and \(Self.limitBytes) is the limit")
        }
        let bytes = Data(comment.utf8)
        guard comment.first == "{" else { throw Self.missing("The file's comment is no manifest.") }
        guard let version = try? JSONDecoder().decode(Version.self, from: bytes) else {
            throw Self.invalid("it is no JSON object with a version")
        }
        guard let number = version.manifest else { throw Self.missing("The file's comment names no manifest version.") }
        guard number <= Self.currentVersion else {
            throw Failure(
                "manifest_newer",
                "The file's manifest has version \(number); this program reads up to "
                    + "\(Self.currentVersion).", remedy: "Use a newer zoetrope.")
        }
        guard number >= 1 else { throw Self.invalid("its version is \(number)") }
        do {
            self = try JSONDecoder().decode(Self.self, from: bytes)
        } catch {
            throw Self.invalid(Self.reason(error))
        }
    }

    private static func missing(_ reason: String) -> Failure {
        Failure(
            "manifest_missing", reason,
            remedy: "Only mp4, webm, mkv and gif files that zoetrope wrote, and nobody stripped, can be replayed.")
    }

    private static func invalid(_ reason: String) -> Failure {
        Failure("manifest_invalid", "The file's manifest cannot be read: \(reason).", remedy: "Use an undamaged copy.")
    }

    private static func reason(_ error: any Error) -> String {
        guard let error = error as? DecodingError else { return "it is damaged" }
        switch error {
        case .keyNotFound(let key, _): return "\(key.stringValue.prefix(80)) is missing"
        case .typeMismatch(_, let context), .valueNotFound(_, let context), .dataCorrupted(let context):
            let path = context.codingPath.map { String($0.stringValue.prefix(80)) }.joined(separator: ".")
            return path.isEmpty ? "it is damaged" : "\(path) has a value that it cannot have"
        @unknown default: return "it is damaged"
        }
    }
}

extension GenerationRequest {
    /// The request without what does not decide the pictures or differs from run to run: notes (they name jobs), how the
    /// seed was chosen, what is kept beside the file, and who wrote the prompt.
    func asMade(prompt: String?) -> GenerationRequest {
        var made = self
        if let prompt { made.prompt = prompt }
        made.notes = []
        made.seedIsRandom = false
        made.keepStepLatents = false
        made.keepFloatFrames = false
        made.upsamplePrompt = false
        made.isCaptioned = nil
        return made
    }

    /// Makes the request one that asks for what the decoder did; false where no field asks for it: tiles for the decoder
    /// alone, in a job that also encodes pictures.
    fileprivate mutating func asMade(_ decode: DecodeManner) -> Bool {
        decodeWorkers = nil
        switch decode {
        case .asAsked: return true
        case .shared(let members):
            decodeWorkers = members
            return true
        case .tiles:
            if conditioning == nil { vaeTiling = true }
            return conditioning == nil
        }
    }

    /// The request's values under the names that requests give them, for asking for the same once more. What it began
    /// with beside its text is not among them.
    package var fields: [String: any Sendable] {
        var fields: [String: any Sendable] = [
            "prompt": prompt, "negative_prompt": negativePrompt, "width": width, "height": height,
            "num_frames": numFrames, "fps": framesPerSecond, "num_inference_steps": numInferenceSteps,
            "guidance_scale": guidanceScale, "use_dynamic_cfg": useDynamicCFG, "scheduler": scheduler.rawValue,
            "seed": seed, "dtype": dtype.rawValue, "container": container.rawValue,
            "allow_unsafe_steps": allowUnsafeStepCount,
        ]
        fields["step_cache"] = stepCache?.rawValue
        fields["step_cache_threshold"] = stepCacheThreshold
        fields["step_cache_range"] = stepCacheRange
        fields["fit"] = fit?.rawValue
        fields["strength"] = strength
        fields["image_latent_scale"] = imageLatentScale
        fields["steps_until"] = stepsUntil
        fields["decode_workers"] = decodeWorkers
        fields["vae_tiling"] = vaeTiling
        fields["loras"] = loras?.map { ["name": $0.name, "weight": $0.weight] as [String: any Sendable] }
        return fields
    }
}
