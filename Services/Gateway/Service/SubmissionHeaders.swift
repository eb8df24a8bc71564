import Failure
import Hummingbird
import Request
import Wire

/// What a client says about a job beside its request: which repeat it is, whose, and how urgent.
enum SubmissionHeaders {
    /// `Idempotency-Key`, empty without one.
    static func idempotencyKey(_ headers: HTTPFields) throws(HTTPFailure) -> String {
        guard let key = headers.value("Idempotency-Key") else { return "" }
        guard (1...RequestLimits.idempotencyKeyBytes).contains(key.utf8.count) else {
            throw HTTPFailure(
                .badRequest,
                Failure(
                    "idempotency_key_invalid", "The idempotency key has \(key.utf8.count) bytes.",
                    field: "Idempotency-Key", remedy: "Use 1 to \(RequestLimits.idempotencyKeyBytes) bytes."))
        }
        return key
    }

    /// Every API key is a tenant of its own: the beginning of its SHA-256, so that no ledger holds the key. Requests
    /// without an `Authorization` share one tenant.
    static func tenant(_ headers: HTTPFields) -> String {
        guard let authorization = headers[.authorization], !authorization.isEmpty else { return "" }
        return String(Digest.of(Array(authorization.utf8)).description.prefix(16))
    }

    /// `Zoetrope-Priority`, 0 without one; higher goes first.
    static func priority(_ headers: HTTPFields) throws(HTTPFailure) -> Int32 {
        guard let text = headers.value("Zoetrope-Priority") else { return 0 }
        guard let value = Int32(text), (-100...100).contains(value) else {
            throw HTTPFailure(
                .badRequest,
                Failure(
                    "priority_invalid", "The priority \"\(text.prefix(40))\" is no whole number from -100 to 100.",
                    field: "Zoetrope-Priority", remedy: "Leave it out for 0; higher goes first."))
        }
        return value
    }
}
