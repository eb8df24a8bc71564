package import Failure
import Foundation
package import Request

/// Whether a video that was made again is the one it was made from, and if not, what may be the reason.
package struct ReplayComparison: Sendable, Hashable {
    /// One thing that two manifests say differently.
    package struct Difference: Sendable, Hashable, CustomStringConvertible {
        /// Names down to the value, with dots between: `arithmetic.denoise.name`.
        package var path: String
        /// As JSON; nil where there was nothing.
        package var was: String?
        package var isNow: String?

        package var description: String { "\(path): was \(was ?? "absent"), is \(isNow ?? "absent")" }

        /// Whether other pictures may follow from it; the rest only changes the file around them.
        package var touchesFrames: Bool {
            ["model.digest", "arithmetic.", "request."].contains { path.hasPrefix($0) }
                && path != "request.model" && !path.hasPrefix("request.inputs") && !path.hasPrefix("request.container")
        }
    }

    /// What the original's manifest says of its frames, and what the new one's does.
    package var framesWere: String
    package var framesAre: String
    package var areFilesEqual: Bool
    /// Beyond the frames.
    package var differences: [Difference]
    /// How far the pictures of the two files are apart in the mean, in levels of 0 … 255; nil where nobody looked.
    package var pictureDistance: Double?

    package init(
        original: VideoManifest, replay: VideoManifest, areFilesEqual: Bool, pictureDistance: Double? = nil
    ) throws(Failure) {
        framesWere = original.framesDigest
        framesAre = replay.framesDigest
        self.areFilesEqual = areFilesEqual
        self.pictureDistance = pictureDistance
        differences = try Self.differences(original, replay).filter { $0.path != "frames_sha256" }
    }

    package var areFramesEqual: Bool { framesWere == framesAre }

    /// The lossy codecs leave pictures closer than this; other pictures are farther away.
    private static let distanceLimit = 12.0

    /// Whether the file's pictures are others than those that its manifest speaks of.
    package var arePicturesForeign: Bool { areFramesEqual && (pictureDistance ?? 0) > Self.distanceLimit }

    package var isIdentical: Bool { areFilesEqual || (areFramesEqual && !arePicturesForeign) }

    /// What to print.
    package var report: [String] {
        if areFilesEqual { return ["bit-identical: the files are the same, byte for byte"] }
        var lines: [String] = []
        if arePicturesForeign {
            lines.append("not identical: the frames are those of the manifest, but the file shows other pictures")
        } else if areFramesEqual {
            lines.append("bit-identical frames (SHA-256 \(framesAre)); the files around them differ")
        } else {
            lines.append("not identical: the frames have SHA-256 \(framesAre), and the manifest says \(framesWere)")
        }
        lines += differences.map { "  \($0)" }
        if !areFramesEqual, !differences.contains(where: \.touchesFrames) {
            lines.append("  nothing in the manifests explains it: the manifest was changed, or the program has a fault")
        }
        if areFramesEqual, differences.isEmpty, !arePicturesForeign {
            lines.append(
                "  the manifests are equal: the encoder worked otherwise (more or fewer threads) or was another")
        }
        return lines
    }

    /// Fails with `replay_differs` unless the result is identical.
    package func check() throws(Failure) {
        guard !isIdentical else { return }
        throw Failure(
            "replay_differs", "The video that was made again is not the one of the file.",
            remedy: "The reasons are above; both files are there to be looked at.")
    }

    /// Everything that two manifests say differently, in the order of the names.
    package static func differences(
        _ original: VideoManifest, _ replay: VideoManifest
    ) throws(Failure) -> [Difference] {
        let was = try flat(original), now = try flat(replay)
        return Set(was.keys).union(now.keys).sorted().compactMap { path in
            was[path] == now[path] ? nil : Difference(path: path, was: was[path], isNow: now[path])
        }
    }

    private static func flat(_ manifest: VideoManifest) throws(Failure) -> [String: String] {
        let text = try manifest.encoded()
        let value = try? JSONSerialization.jsonObject(with: Data(text.utf8))
        var values: [String: String] = [:]
        flatten(value as Any, "", into: &values)
        return values
    }

    private static func flatten(_ value: Any, _ path: String, into values: inout [String: String]) {
        switch value {
        case let object as [String: Any]:
            for (name, value) in object { flatten(value, path.isEmpty ? name : "\(path).\(name)", into: &values) }
        case let list as [Any]:
            for (index, value) in list.enumerated() { flatten(value, "\(path)[\(index)]", into: &values) }
        case let text as String: values[path] = "\"\(Console.plain(text))\""
        default: values[path] = "\(value)"
        }
    }
}
