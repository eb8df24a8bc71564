import Failure
import Foundation
import Media
import Wire

/// The pictures and clips that a request begins with, read once.
struct MediaFiles: Sendable {
    private let files: [(field: String, path: String, bytes: Data)]

    /// Reads the files of `options`. Fails with `media_unreadable`.
    init(_ options: GenerationOptions) throws(Failure) { try self.init(options.media) }

    /// Reads files by the name of their field. Fails with `media_unreadable`.
    init(_ media: [(field: String, path: String)]) throws(Failure) {
        var files: [(field: String, path: String, bytes: Data)] = []
        for (field, path) in media {
            guard let bytes = FileManager.default.contents(atPath: path), !bytes.isEmpty else {
                throw Failure(
                    "media_unreadable", "\(path) cannot be read or is empty.", field: field,
                    remedy: "Name a picture or clip that you may read.")
            }
            files.append((field, path, bytes))
        }
        self.files = files
    }

    /// Names of the fields, for a request that is checked before anything is uploaded.
    var fields: [String] { files.map(\.field) }

    /// The SHA-256 of the file that was given for `field`.
    func digest(of field: String) -> Digest? {
        files.first { $0.field == field }.map { Digest.of(Array($0.bytes)) }
    }

    /// About how many frames the clip gives at `rate`; nil without a clip.
    func clipFrames(rate: Int?) throws(Failure) -> Int? {
        guard let clip = files.first(where: { $0.field == "video" || $0.field == "control_video" }) else { return nil }
        let probe = try MediaProbe(path: clip.path)
        return max(1, rate.map { Int(probe.duration * Double($0)) } ?? probe.frameCount)
    }

    /// Uploads the files; the id for each field.
    func upload(to client: GatewayClient) async throws(Failure) -> [String: String] {
        var ids: [String: String] = [:]
        for file in files { ids[file.field] = try await client.upload(media: file.bytes) }
        return ids
    }
}
