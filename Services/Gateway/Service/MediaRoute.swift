import Failure
import Hummingbird
import Tensor
import Wire

/// `POST /v1/media`: keeps the bytes of a picture or clip for the requests that will name its id.
struct MediaRoute: Sendable {
    static let limitBytes = RequestBodyReader.formLimitBytes

    let service: any JobService

    func add(to router: Router<BasicRequestContext>) {
        router.post("/v1/media") { request, _ in try await upload(request) }
    }

    private struct Stored: Encodable {
        let id: String
        let object = "media"
        let bytes: Int
    }

    /// The id goes into a request's `image`, `video` or `control_video`; only there the bytes are read.
    private func upload(_ request: Hummingbird.Request) async throws -> Response {
        let bytes = try await RequestBody.bytes(
            of: request, limit: Self.limitBytes,
            tooLarge: Failure(
                "body_too_large", "The file exceeds \(Self.limitBytes) bytes.",
                remedy: "Cut the clip to the seconds that are used."))
        guard !bytes.isEmpty else {
            throw HTTPFailure(
                .badRequest,
                Failure("media_empty", "The body is empty.", remedy: "Send the bytes of a picture or clip."))
        }
        let ref = try await HTTPFailure.fromBroker { () async throws(Failure) in
            try await service.store(Tensor(bytes: bytes))
        }
        return JSONAnswer.response(Stored(id: MediaID(ref).description, bytes: bytes.count))
    }
}

/// What names stored media: the digest of its bytes and their count.
struct MediaID: CustomStringConvertible, Sendable {
    let digest: Digest
    let count: Int

    init(_ ref: TensorRef) {
        digest = ref.digest
        count = ref.shape.reduce(1, *)
    }

    /// Nil unless `text` is an id that `POST /v1/media` could have given.
    init?(_ text: String) {
        let parts = text.split(separator: "-", omittingEmptySubsequences: false)
        guard parts.count == 2, let digest = Digest(hexadecimal: String(parts[0])), let count = Int(parts[1]),
            (1...MediaRoute.limitBytes).contains(count)
        else { return nil }
        self.digest = digest
        self.count = count
    }

    var description: String { "\(digest)-\(count)" }
}
