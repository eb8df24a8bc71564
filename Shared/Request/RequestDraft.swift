package import Failure
package import FoundationEssentials

/// A picture or clip that came as a file in the form of a request.
package struct AttachedFile: Sendable, Hashable {
    /// What it is: `image`, `video`, `control_video`, `caption_of`, or `input_reference` for whichever the model begins
    /// with.
    package var field: String
    package var bytes: [UInt8]

    package static let fields = ["input_reference", "image", "video", "control_video", "caption_of"]

    package init(field: String, bytes: [UInt8]) {
        self.field = field
        self.bytes = bytes
    }
}

/// A request as the user gave it: every field optional, types checked, ranges not yet.
///
/// Read strictly: a field that is not known is `unknown_field` with the nearest known name, a value of the wrong kind
/// is `wrong_type`. `resolved(for:)` checks the values against a model and fills in the rest.
package struct RequestDraft: Sendable, Hashable {
    package var prompt: String?
    package var negativePrompt: String?
    /// The name or digest of a model; any other than the served one is `model_unknown`.
    package var model: String?
    package var width: Int?
    package var height: Int?
    /// `WIDTHxHEIGHT`, as OpenAI's interface has it; instead of `width` and `height`.
    package var size: String?
    package var numFrames: Int?
    /// Instead of `numFrames`: the smallest possible frame count that lasts at least so long.
    package var seconds: Int?
    package var framesPerSecond: Int?
    package var numInferenceSteps: Int?
    package var guidanceScale: Double?
    package var useDynamicCFG: Bool?
    package var scheduler: String?
    package var seed: UInt64?
    package var dtype: String?
    package var container: String?
    package var outputType: String?
    package var upsamplePrompt: Bool?
    package var allowUnsafeStepCount: Bool?
    package var keepStepLatents: Bool?
    package var keepFloatFrames: Bool?
    package var stepCache: String?
    package var stepCacheThreshold: Double?
    package var stepCacheRange: Int?
    /// The id of noise `[1, F, C, h, w]` uploaded before, to start from instead of the seed's.
    package var initialLatents: String?
    /// The id of an uploaded picture that becomes the first frame.
    package var image: String?
    /// The id of an uploaded clip to make another of.
    package var video: String?
    /// The id of an uploaded clip that every step follows.
    package var controlVideo: String?
    /// The id of an uploaded clip whose caption is the prompt.
    package var captionOf: String?
    package var fit: String?
    package var strength: Double?
    package var imageLatentScale: Double?
    /// Frames a second that are taken of a clip; nil takes every frame as it is.
    package var sourceFramesPerSecond: Int?
    /// Stop after so many steps and show what they foretell; the job can be continued.
    package var stepsUntil: Int?
    /// Decoders that may share the decode.
    package var decodeWorkers: Int?
    /// Adapters of the transformer, by name in the server's folder.
    package var loras: [AdapterUse]?
    /// Whether the autoencoder works in tiles.
    package var vaeTiling: Bool?
    /// How many videos, with seeds that follow one another; nil for one.
    package var count: Int?
    /// A file that came with the request.
    package var attachment: AttachedFile?

    package init() {}

    /// The names that JSON bodies and form fields may hold.
    package static let fieldNames = [
        "prompt", "negative_prompt", "model", "width", "height", "size", "num_frames", "seconds", "fps",
        "num_inference_steps", "guidance_scale", "use_dynamic_cfg", "scheduler", "seed", "dtype", "container",
        "output_type", "upsample_prompt", "allow_unsafe_steps", "keep_step_latents", "keep_float_frames",
        "init_latents", "step_cache", "step_cache_threshold", "step_cache_range", "image", "video", "control_video",
        "fit", "strength", "image_latent_scale", "source_fps", "steps_until", "decode_workers", "loras", "vae_tiling",
        "n", "caption_of",
    ]

    /// Reads one JSON object; `body_not_json` when it is none. A null leaves the field's default.
    package init(json: Data) throws(Failure) {
        let fields: [String: RequestValue]
        do {
            fields = try JSONDecoder().decode([String: RequestValue].self, from: json)
        } catch {
            throw Failure(
                "body_not_json", "The request body is not a JSON object.",
                remedy: "Send an object such as {\"prompt\": \"…\"}.")
        }
        // Sorted, so that of several wrong fields the same one is always named.
        for (name, value) in fields.sorted(by: { $0.key < $1.key }) { try set(name, to: value) }
    }

    /// Reads a form; a name given twice is `field_repeated`, a file where none belongs `file_unsupported`.
    package init(form: [FormPart]) throws(Failure) {
        var seen: Set<String> = []
        for part in form {
            guard seen.insert(part.name).inserted else {
                throw Failure(
                    "field_repeated", "\(part.name) is given twice.", field: part.name, remedy: "Give it once.")
            }
            switch part.content {
            case .text(let value): try set(part.name, to: .text(value))
            case .file(let bytes): try attach(AttachedFile(field: part.name, bytes: bytes))
            }
        }
    }

    private mutating func attach(_ file: AttachedFile) throws(Failure) {
        guard AttachedFile.fields.contains(file.field) else {
            throw Failure(
                "file_unsupported", "\(file.field.prefix(80)) is a file.", field: "\(file.field.prefix(80))",
                remedy: "Files go into \(AttachedFile.fields.joined(separator: ", ")).")
        }
        if let attachment {
            throw Failure(
                "fields_conflict", "\(attachment.field) and \(file.field) are both files.", field: file.field,
                remedy: "Give one of them.")
        }
        attachment = file
    }

    /// Sets the field with the public name `name`. Errors: `unknown_field`, `wrong_type`, `seed_out_of_range`.
    package mutating func set(_ name: String, to value: RequestValue) throws(Failure) {
        guard Self.fieldNames.contains(name) else { throw Self.unknown(name) }
        guard value != .null else { return }
        if try setText(name, to: value) { return }
        if try setSwitch(name, to: value) { return }
        switch name {
        case "width": width = try value.integer(name)
        case "height": height = try value.integer(name)
        case "num_frames": numFrames = try value.integer(name)
        case "seconds": seconds = try value.seconds(name)
        case "fps": framesPerSecond = try value.integer(name)
        case "source_fps": sourceFramesPerSecond = try value.integer(name)
        case "num_inference_steps": numInferenceSteps = try value.integer(name)
        case "steps_until": stepsUntil = try value.integer(name)
        case "decode_workers": decodeWorkers = try value.integer(name)
        case "n": count = try value.integer(name)
        case "guidance_scale": guidanceScale = try value.number(name)
        case "step_cache_threshold": stepCacheThreshold = try value.number(name)
        case "step_cache_range": stepCacheRange = try value.integer(name)
        case "strength": strength = try value.number(name)
        case "image_latent_scale": imageLatentScale = try value.number(name)
        case "seed": seed = try value.seed(name)
        case "loras": loras = try value.adapters(name)
        default: throw Self.unknown(name)
        }
    }

    private mutating func setText(_ name: String, to value: RequestValue) throws(Failure) -> Bool {
        switch name {
        case "prompt": prompt = try value.string(name)
        case "negative_prompt": negativePrompt = try value.string(name)
        case "model": model = try value.string(name)
        case "size": size = try value.string(name)
        case "scheduler": scheduler = try value.string(name)
        case "dtype": dtype = try value.string(name)
        case "container": container = try value.string(name)
        case "output_type": outputType = try value.string(name)
        case "init_latents": initialLatents = try value.string(name)
        case "step_cache": stepCache = try value.string(name)
        case "image": image = try value.string(name)
        case "video": video = try value.string(name)
        case "control_video": controlVideo = try value.string(name)
        case "caption_of": captionOf = try value.string(name)
        case "fit": fit = try value.string(name)
        default: return false
        }
        return true
    }

    private mutating func setSwitch(_ name: String, to value: RequestValue) throws(Failure) -> Bool {
        switch name {
        case "use_dynamic_cfg": useDynamicCFG = try value.bool(name)
        case "upsample_prompt": upsamplePrompt = try value.bool(name)
        case "allow_unsafe_steps": allowUnsafeStepCount = try value.bool(name)
        case "keep_step_latents": keepStepLatents = try value.bool(name)
        case "keep_float_frames": keepFloatFrames = try value.bool(name)
        case "vae_tiling": vaeTiling = try value.bool(name)
        default: return false
        }
        return true
    }

    private static func unknown(_ name: String) -> Failure {
        let shown = name.count > 80 ? name.prefix(80) + "…" : name
        let nearest = EditDistance.nearest(to: name, among: fieldNames)
        let remedy =
            nearest.map { "Did you mean \($0)?" } ?? "The fields are \(fieldNames.joined(separator: ", "))."
        return Failure("unknown_field", "\(shown) is not a field of a request.", field: shown, remedy: remedy)
    }
}
