package import Bus
import Failure
import Hummingbird
import Logging

/// Who may drain workers, look at dead jobs and retry them over HTTP.
package enum AdminGate: Sendable {
    /// Whoever reaches the gateway: a bus without keys has no administrators.
    case open
    /// Whoever shows the token.
    case token(AdminToken)
    /// Nobody: the bus has keys, and the gateway was given no token to tell administrators by.
    case closed

    /// - Throws: `admin_disabled` (403), `admin_token_required` (401).
    func check(_ request: Hummingbird.Request) throws(HTTPFailure) {
        switch self {
        case .open: return
        case .closed:
            throw HTTPFailure(
                .forbidden,
                Failure(
                    "admin_disabled", "This gateway does not administrate its cluster.",
                    remedy: "Start it with --admin-token-file (zoetrope keys token), or use a gateway that was."))
        case .token(let token):
            guard let given = Self.bearer(request.headers), token.matches(given) else {
                throw HTTPFailure(
                    .unauthorized,
                    Failure(
                        "admin_token_required", "\(request.uri.path.prefix(200)) is for administrators.",
                        field: "Authorization", remedy: "Give the gateway's token with --admin-token-file."),
                    headers: [.wwwAuthenticate: "Bearer"])
            }
        }
    }

    private static func bearer(_ headers: HTTPFields) -> String? {
        guard let words = headers[.authorization]?.split(separator: " "), words.count == 2,
            words[0].lowercased() == "bearer"
        else { return nil }
        return String(words[1])
    }
}

/// Counts who is turned away.
struct AdminMiddleware: RouterMiddleware {
    typealias Context = BasicRequestContext
    let gate: AdminGate
    let metrics: GatewayMetrics

    func handle(
        _ request: Request, context: BasicRequestContext,
        next: (Request, BasicRequestContext) async throws -> Response
    ) async throws -> Response {
        do throws(HTTPFailure) {
            try gate.check(request)
        } catch {
            metrics.countAdminRefusal()
            context.logger.warning(
                "administration refused", metadata: ["path": "\(request.uri.path)", "code": "\(error.failure.code)"])
            throw error
        }
        return try await next(request, context)
    }
}
