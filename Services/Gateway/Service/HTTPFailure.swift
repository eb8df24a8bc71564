package import Failure
import FoundationEssentials
package import Hummingbird

/// A failure with the status it is answered with.
package struct HTTPFailure: Error, Sendable {
    package var status: HTTPResponse.Status
    package var failure: Failure
    package var headers: HTTPFields

    package init(_ status: HTTPResponse.Status, _ failure: Failure, headers: HTTPFields = [:]) {
        self.status = status
        self.failure = failure
        self.headers = headers
    }

    /// The answer to a failure that the broker or the bus reported.
    package init(_ failure: Failure) {
        status = Self.statuses[failure.code] ?? .internalServerError
        self.failure = failure
        headers = [:]
        if status == .serviceUnavailable || status == .tooManyRequests {
            // The broker says when there will be room; a broker that is away says nothing.
            let wait = failure.retryAfterMilliseconds
            headers[.retryAfter] = wait > 0 ? "\((UInt64(wait) + 999) / 1000)" : "2"
        }
    }

    /// Codes of the broker and the bus that are not the gateway's fault. Codes of wrong requests need no entry: they
    /// are answered with 400 where the request is read.
    private static let statuses: [String: HTTPResponse.Status] = [
        "job_not_found": .notFound,
        // The gateway's own key may not do it.
        "forbidden": .forbidden,
        "key_reused_with_other_body": .conflict,
        "input_missing": .gone,
        "overloaded": .tooManyRequests,
        "quota": .tooManyRequests,
        "deadline_unreachable": .unprocessableContent,
        "draining": .serviceUnavailable,
        "cell_unreachable": .serviceUnavailable,
        "cell_mismatch": .serviceUnavailable,
        "cell_unknown": .notFound,
        "worker_not_found": .notFound,
        "job_not_dead": .conflict,
        "broker_unreachable": .serviceUnavailable,
        "bus_closed": .serviceUnavailable,
        "bus_unavailable": .serviceUnavailable,
        "ledger_full": .serviceUnavailable,
        "digest_mismatch": .badGateway,
    ]

    /// Runs `body` and answers its failure with 400: for reading what the client sent.
    static func badRequest<Value>(_ body: () throws(Failure) -> Value) throws(HTTPFailure) -> Value {
        do throws(Failure) {
            return try body()
        } catch {
            throw HTTPFailure(.badRequest, error)
        }
    }

    /// Runs `body`, which asks the broker, and gives its failure the fitting status.
    static func fromBroker<Value: Sendable>(
        _ body: () async throws(Failure) -> Value
    ) async throws(HTTPFailure) -> Value {
        do throws(Failure) {
            return try await body()
        } catch {
            throw HTTPFailure(error)
        }
    }

    /// The answer to a body that ends early or is framed wrongly: the client's doing, not ours.
    static func brokenBody(_ error: any Error) -> HTTPFailure {
        HTTPFailure(
            .badRequest,
            Failure(
                "body_incomplete", "The request body broke off: \(error).", remedy: "Send the request again."))
    }

    /// The error in OpenAI's form: `{"error": {"message", "type", "param", "code"}}`.
    package func response() -> Response {
        let kind =
            switch status.code {
            case 429: "rate_limit_error"
            case 500...: "server_error"
            default: "invalid_request_error"
            }
        let message = failure.remedy.map { "\(failure.message) \($0)" } ?? failure.message
        let body = Body(error: .init(message: message, type: kind, param: failure.field, code: failure.code))
        var response = JSONAnswer.response(body, status: status)
        for field in headers { response.headers[field.name] = field.value }
        return response
    }

    private struct Body: Encodable {
        struct Detail: Encodable {
            let message: String
            let type: String
            let param: String?
            let code: String

            enum CodingKeys: CodingKey { case message, type, param, code }

            /// OpenAI's form has `param` in every error, null where no field is concerned.
            func encode(to encoder: any Encoder) throws {
                var container = encoder.container(keyedBy: CodingKeys.self)
                try container.encode(message, forKey: .message)
                try container.encode(type, forKey: .type)
                try container.encode(param, forKey: .param)
                try container.encode(code, forKey: .code)
            }
        }

        let error: Detail
    }
}
