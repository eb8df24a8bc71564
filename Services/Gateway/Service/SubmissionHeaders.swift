import Failure
import Hummingbird
import Request
import Wire

/// What a client says about a job beside its request: which repeat it is, whose, how urgent, and until when it is wanted.
struct SubmissionHeaders: Sendable {
    /// `Idempotency-Key`, empty without one.
    let idempotencyKey: String
    /// Every API key is a tenant of its own: the beginning of its SHA-256, so that no ledger holds the key. Requests
    /// without an `Authorization` share one tenant.
    let tenant: String
    /// `Zoetrope-Priority`, 0 without one; higher goes first.
    let priority: Int32
    /// `Zoetrope-Deadline`, which is in seconds; 0 without one.
    let deadlineMilliseconds: UInt64

    /// Fails with `idempotency_key_invalid`, `priority_invalid` or `deadline_invalid`.
    init(_ headers: HTTPFields) throws(HTTPFailure) {
        idempotencyKey = try Self.idempotencyKey(headers)
        tenant = Self.tenant(headers)
        priority = try Self.priority(headers)
        deadlineMilliseconds = try Self.deadline(headers)
    }

    static func idempotencyKey(_ headers: HTTPFields) throws(HTTPFailure) -> String {
        guard let key = headers.value("Idempotency-Key") else { return "" }
        guard (1...RequestLimits.idempotencyKeyBytes).contains(key.utf8.count) else {
            throw refusal(
                "idempotency_key_invalid", "The idempotency key has \(key.utf8.count) bytes.", "Idempotency-Key",
                "Use 1 to \(RequestLimits.idempotencyKeyBytes) bytes.")
        }
        return key
    }

    private static func tenant(_ headers: HTTPFields) -> String {
        guard let authorization = headers[.authorization], !authorization.isEmpty else { return "" }
        return String(Digest.of(Array(authorization.utf8)).description.prefix(16))
    }

    private static func priority(_ headers: HTTPFields) throws(HTTPFailure) -> Int32 {
        guard let text = headers.value("Zoetrope-Priority") else { return 0 }
        guard let value = Int32(text), (-100...100).contains(value) else {
            throw refusal(
                "priority_invalid", "The priority \"\(text.prefix(40))\" is no whole number from -100 to 100.",
                "Zoetrope-Priority", "Leave it out for 0; higher goes first.")
        }
        return value
    }

    private static func deadline(_ headers: HTTPFields) throws(HTTPFailure) -> UInt64 {
        guard let text = headers.value("Zoetrope-Deadline") else { return 0 }
        let most = Double(Limits.deadlineMilliseconds) / 1000
        guard let seconds = Double(text), seconds > 0, seconds <= most else {
            throw refusal(
                "deadline_invalid", "The deadline \"\(text.prefix(40))\" is no number of seconds up to \(Int(most)).",
                "Zoetrope-Deadline", "Give the seconds from now after which nobody wants the video.")
        }
        return UInt64(max(1, seconds * 1000))
    }

    private static func refusal(_ code: String, _ message: String, _ field: String, _ remedy: String) -> HTTPFailure {
        HTTPFailure(.badRequest, Failure(code, message, field: field, remedy: remedy))
    }
}
