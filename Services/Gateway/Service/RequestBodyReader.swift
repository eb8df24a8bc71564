import Failure
import FoundationEssentials
import Hummingbird
import Request

/// Reads the body of `POST /v1/videos`, JSON or form fields, into a draft.
enum RequestBodyReader {
    /// Of JSON, and of a form without its file.
    static let limitBytes = 64 * 1024
    /// Of a form with a picture or clip.
    static let formLimitBytes = 256 * 1024 * 1024

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
        let isForm = kind == "multipart/form-data"
        let limit = isForm ? formLimitBytes : limitBytes
        let body = try await RequestBody.bytes(of: request, limit: limit, tooLarge: tooLarge(limit))
        return try HTTPFailure.badRequest { () throws(Failure) -> RequestDraft in
            guard isForm else { return try RequestDraft(json: Data(body)) }
            let boundary = HeaderParameters.value("boundary", in: contentType) ?? ""
            let draft = try RequestDraft(form: try MultipartForm.parts(body, boundary: boundary))
            let text = body.count - (draft.attachment?.bytes.count ?? 0)
            guard text <= limitBytes else { throw tooLarge(limitBytes) }
            return draft
        }
    }

    private static func tooLarge(_ limit: Int) -> Failure {
        Failure(
            "body_too_large", "The request body exceeds \(limit) bytes.",
            remedy: "A request is a prompt, a few numbers and at most one picture or clip; shorten it.")
    }
}
