import Failure
import FoundationEssentials
import Hummingbird
import NIOCore
import Request

/// Reads the body of `POST /v1/videos`, JSON or form fields, into a draft.
enum RequestBodyReader {
    static let limitBytes = 64 * 1024

    static func draft(of request: Hummingbird.Request) async throws -> RequestDraft {
        let contentType = request.headers[.contentType] ?? ""
        let kind = contentType.prefix { $0 != ";" }.lowercased().filter { $0 != " " }
        guard kind == "application/json" || kind == "multipart/form-data" else {
            throw HTTPFailure(
                .unsupportedMediaType,
                Failure(
                    "content_type_unsupported", "The content type is \"\(contentType.prefix(80))\".",
                    field: "Content-Type",
                    remedy: "Send application/json or multipart/form-data."))
        }
        let body = try await bytes(of: request)
        return try HTTPFailure.badRequest { () throws(Failure) -> RequestDraft in
            guard kind == "multipart/form-data" else { return try RequestDraft(json: Data(body)) }
            let boundary = HeaderParameters.value("boundary", in: contentType) ?? ""
            return try RequestDraft(form: try MultipartForm.fields(body, boundary: boundary))
        }
    }

    private static func bytes(of request: Hummingbird.Request) async throws -> [UInt8] {
        do {
            return Array(buffer: try await request.body.collect(upTo: limitBytes))
        } catch is NIOTooManyBytesError {
            throw HTTPFailure(
                .contentTooLarge,
                Failure(
                    "body_too_large", "The request body exceeds \(limitBytes) bytes.",
                    remedy: "A request is a prompt and a few numbers; shorten it."))
        } catch {
            throw HTTPFailure.brokenBody(error)
        }
    }
}
