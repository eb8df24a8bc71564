import Checkpoint
import Compute
import Failure
import Foundation
import Media
import Request
import Tensor
import Wire

/// The file to make again: its manifest, and what the user gives once more because no file holds it.
struct ReplaySource: Sendable {
    let path: String
    let manifest: VideoManifest
    let media: MediaFiles
    let latentsPath: String?
    /// What is known beforehand to be different and may make other pictures.
    private(set) var differences: [String]

    /// Reads the manifest and checks what was given against it.
    ///
    /// Fails with `manifest_missing`, `manifest_invalid`, `manifest_newer`, `replay_input_missing` for something that
    /// the video began with and nobody gave, `fields_conflict` for something that it did not begin with, and as
    /// `MediaProbe` and `MediaFiles` do.
    init(path: String, media given: [(field: String, path: String)], latentsPath: String?) throws(Failure) {
        self.path = path
        self.latentsPath = latentsPath
        manifest = try Self.manifest(of: path)
        media = try MediaFiles(given)
        differences = []
        let wanted = (manifest.request.inputs ?? []).filter { $0.field != "caption_of" }
        let fields = media.fields + (latentsPath == nil ? [] : ["init_latents"])
        for input in wanted where !fields.contains(input.field) {
            let option = Self.option(input.field)
            throw Failure(
                "replay_input_missing",
                "The video began with a file that is not in it (SHA-256 \(Self.digest(of: input))).",
                field: input.field, remedy: option.map { "Give it again with \($0) FILE." })
        }
        for field in fields where !wanted.contains(where: { $0.field == field }) {
            throw Failure(
                "fields_conflict", "\(field) is given, and the video did not begin with one.", field: field,
                remedy: "Leave it out.")
        }
        for input in wanted {
            guard let digest = media.digest(of: input.field)?.description, digest != input.file else { continue }
            differences.append(
                "\(input.field): the file has SHA-256 \(digest), and the video began with \(Self.digest(of: input))")
        }
    }

    /// The manifest of a video file.
    static func manifest(of path: String) throws(Failure) -> VideoManifest {
        try VideoManifest(comment: try MediaProbe(path: path).metadata["comment"])
    }

    private static func digest(of input: RequestInput) -> String {
        Console.plain(input.file ?? input.content ?? "not recorded")
    }

    private static func option(_ field: String) -> String? {
        [
            "image": "--image", "video": "--video", "control_video": "--control-video",
            "init_latents": "--init-latents",
        ][field]
    }

    /// Frames a second that were taken of the clip that it began with.
    var sourceFramesPerSecond: Int? { manifest.request.inputs?.compactMap(\.sourceFramesPerSecond).first }

    /// Decoders that made the clip: as many have to make it again. A big one would be shared without being asked for.
    var decoders: Int { manifest.request.decodeWorkers ?? 1 }

    /// The request's fields; files and latents are empty until they are uploaded.
    var fields: [String: any Sendable] {
        var fields = manifest.request.fields
        fields["source_fps"] = sourceFramesPerSecond
        fields["decode_workers"] = decoders
        for field in media.fields { fields[field] = "" }
        if latentsPath != nil { fields["init_latents"] = "" }
        return fields
    }

    /// Reads the initial latents once their shape is known, and compares them.
    mutating func latents(shape: [Int]) throws(Failure) -> Tensor? {
        guard let latentsPath else { return nil }
        let latents = try LatentsFile.read(path: latentsPath, shape: shape)
        let digest = latents.withUnsafeBytes { Digest.of($0) }.description
        let recorded = manifest.request.inputs?.first { $0.field == "init_latents" }?.content
        if digest != recorded {
            differences.append(
                "init_latents: these have SHA-256 \(digest), and the video began with "
                    + Console.plain(recorded ?? "others"))
        }
        return latents
    }

    /// Notes what differs where the model and the arithmetic are known before anything is computed.
    mutating func compare(with traits: ModelTraits) {
        if traits.digest != manifest.model.digest {
            differences.append(
                "model: \(traits.name) has digest \(traits.digest), and the video was made with "
                    + "\(Console.plain(manifest.model.name)), \(Console.plain(manifest.model.digest))")
        }
        let here = CPUBackend(threads: 1).numerics
        for (task, arithmetic) in manifest.arithmetic.sorted(by: { $0.key < $1.key }) where arithmetic.name != "" {
            if arithmetic.name != here {
                differences.append(
                    "arithmetic of \(Console.plain(task)): \(here) here, and it was \(Console.plain(arithmetic.name))")
            }
            if arithmetic.mixed == true {
                differences.append("\(Console.plain(task)) was interrupted and went on with other arithmetic")
            }
            if arithmetic.tiled == true {
                differences.append(
                    "\(Console.plain(task)) was done in tiles, because the decoder had too little memory for all at once"
                )
            }
        }
    }

    /// Notes which adapters have other contents than those that the video was made with.
    ///
    /// - Parameter library: the folder of `--adapters`; nil where none was given.
    ///
    /// Fails with `replay_input_missing` for an adapter that is not there, and with the codes of `AdapterLibrary`.
    mutating func compare(with library: AdapterLibrary?) throws(Failure) {
        for use in manifest.request.loras ?? [] {
            let name = Console.plain(use.name), digest = Console.plain(use.digest)
            guard let library else {
                throw Failure(
                    "replay_input_missing",
                    "The video was made with the adapter \(name) (SHA-256 \(digest)), which is not in it.",
                    field: "loras", remedy: "Give the folder that has it under this name with --adapters FOLDER.")
            }
            let found: String
            do throws(Failure) {
                found = try library.adapter(use.name).entry.digest
            } catch {
                guard error.code == "adapter_not_found" else { throw error }
                throw Failure(
                    "replay_input_missing",
                    "The video was made with the adapter \(name) (SHA-256 \(digest)), and \(library.path) has none of "
                        + "this name.", field: "loras", remedy: "Put the file there under this name.")
            }
            if found != use.digest {
                differences.append(
                    "adapter \(name): the one in \(library.path) has SHA-256 \(found), and the video was made with "
                        + "\(digest); put that one there")
            }
        }
    }

    /// What a gateway's refusal means for a replay: which adapters have to lie there, with which contents.
    func explained(_ refusal: Failure) -> Failure {
        guard ["adapter_not_found", "adapters_unavailable"].contains(refusal.code) else { return refusal }
        let wanted = (manifest.request.loras ?? []).map {
            "\(Console.plain($0.name)) (SHA-256 \(Console.plain($0.digest)))"
        }
        return Failure(
            "replay_input_missing",
            "The video was made with \(wanted.joined(separator: " and ")). The server says: \(refusal.message)",
            field: "loras",
            remedy: "Put the files under these names into the folder that its gateway and denoisers have as --adapters."
        )
    }

    /// What to say before the work.
    var expectation: [String] {
        let shared =
            decoders > 1
            ? ["\(decoders) decoders shared the decode, which shows in the last bits: as many are asked for"] : []
        return shared
            + (differences.isEmpty
                ? ["same model, inputs and arithmetic: an identical video is expected"]
                : ["an identical video cannot be expected:"] + differences.map { "  \($0)" })
    }
}
