import Failure
import Hummingbird
import Request
import Wire

/// `GET /v1/videos/{id}/content`: the files of a finished job, whole or by range.
struct ContentRoute: Sendable {
    private let service: any JobService
    private let cache: FileCache

    init(service: any JobService) {
        self.service = service
        cache = FileCache(service: service)
    }

    func add(to router: Router<BasicRequestContext>) {
        router.get("/v1/videos/:id/content") { request, context in try await content(request, context) }
    }

    /// One of the files that OpenAI's interface names.
    private enum Variant: String, CaseIterable {
        case video, thumbnail, spritesheet

        /// The output of the job's graph that holds it.
        var output: String {
            switch self {
            case .video: "mux.video"
            case .thumbnail: "mux.thumbnail"
            case .spritesheet: "mux.contact_sheet"
            }
        }

        func mediaType(_ request: GenerationRequest?) -> String {
            switch self {
            case .video: request?.container.mediaType ?? "application/octet-stream"
            case .thumbnail: "image/jpeg"
            case .spritesheet: "image/png"
            }
        }

        func fileName(_ job: String, _ request: GenerationRequest?) -> String {
            switch self {
            case .video: "\(job).\(request?.container.rawValue ?? "bin")"
            case .thumbnail: "\(job).jpg"
            case .spritesheet: "\(job).png"
            }
        }
    }

    private func content(_ request: Hummingbird.Request, _ context: BasicRequestContext) async throws -> Response {
        let variant = try variant(request)
        let job = try VideoRoutes.job(context)
        let status = try await HTTPFailure.fromBroker { () async throws(Failure) in try await service.status(job: job) }
        let ref = try output(variant, of: status)
        let generation = try? CanonicalJSON.decode(GenerationRequest.self, from: status.specification)
        let tag = "\"\(ref.digest)\""
        var headers: HTTPFields = [
            .contentType: variant.mediaType(generation), .eTag: tag, .acceptRanges: "bytes",
            .cacheControl: "private, max-age=3600",
            .contentDisposition: "inline; filename=\"\(variant.fileName(job, generation))\"",
        ]
        if let known = request.headers[.ifNoneMatch], known == "*" || known.contains(tag) {
            return Response(status: .notModified, headers: headers)
        }
        // The file may have changed since the part that the client holds (RFC 9110 §13.1.5).
        let isCurrent = request.headers[.ifRange].map { $0 == tag } ?? true
        switch ByteRange(header: isCurrent ? request.headers[.range] : nil, size: ref.byteCount) {
        case .whole:
            return Response(status: .ok, headers: headers, body: ResponseBody(byteBuffer: try await file(ref)))
        case .part(let range):
            headers[.contentRange] = "bytes \(range.lowerBound)-\(range.upperBound - 1)/\(ref.byteCount)"
            let whole = try await file(ref)
            guard let part = whole.getSlice(at: whole.readerIndex + range.lowerBound, length: range.count) else {
                throw HTTPFailure(
                    .internalServerError, Failure("content_short", "The stored file is shorter than its description."))
            }
            return Response(status: .partialContent, headers: headers, body: ResponseBody(byteBuffer: part))
        case .unsatisfiable:
            throw HTTPFailure(
                .rangeNotSatisfiable,
                Failure(
                    "range_not_satisfiable", "The file has \(ref.byteCount) bytes.", field: "Range",
                    remedy: "Ask for bytes that exist."),
                headers: [.contentRange: "bytes */\(ref.byteCount)"])
        }
    }

    private func file(_ ref: TensorRef) async throws(HTTPFailure) -> ByteBuffer {
        try await HTTPFailure.fromBroker { () async throws(Failure) in try await cache.file(ref) }
    }

    private func variant(_ request: Hummingbird.Request) throws(HTTPFailure) -> Variant {
        let text = request.uri.queryParameters["variant"].map { String($0) } ?? "video"
        guard let variant = Variant(rawValue: text) else {
            let known = Variant.allCases.map(\.rawValue).joined(separator: ", ")
            throw HTTPFailure(
                .badRequest,
                Failure(
                    "variant_unknown", "variant is \"\(text.prefix(40))\".", field: "variant",
                    remedy: "Use one of: \(known)."))
        }
        return variant
    }

    /// The file's reference, or why there is none: not yet (404), never (422), not of this job (404).
    private func output(_ variant: Variant, of status: JobStatus) throws(HTTPFailure) -> TensorRef {
        switch status.state {
        case .accepted, .running:
            let wait = min(60, max(1, status.remainingMilliseconds / 1000))
            throw HTTPFailure(
                .notFound,
                Failure(
                    "content_not_ready", "The video is not finished.", field: "id",
                    remedy: "Ask again when its status is completed."),
                headers: [.retryAfter: "\(wait)"])
        case .failed, .dead:
            throw HTTPFailure(
                .unprocessableContent,
                Failure("job_failed", "The job failed (\(status.errorCode)): \(status.errorMessage)", field: "id"))
        case .cancelled:
            throw HTTPFailure(.unprocessableContent, Failure("job_cancelled", "The job was cancelled.", field: "id"))
        case .done: break
        }
        guard let output = status.outputs.first(where: { $0.name == variant.output }) else {
            throw HTTPFailure(
                .notFound,
                Failure(
                    "content_missing", "The job made no \(variant.rawValue).", field: "variant",
                    remedy: "Jobs with output_type video make one."))
        }
        return output.ref
    }
}
