import Failure
import Hummingbird
import Logging

/// Counts every answer, also those to unknown routes.
struct CountingMiddleware: RouterMiddleware {
    /// Any other method counts as one, so that clients cannot make up label values.
    private static let known: Set<HTTPRequest.Method> = [.get, .head, .post, .put, .patch, .delete, .options]

    typealias Context = BasicRequestContext
    let metrics: GatewayMetrics

    func handle(
        _ request: Request, context: BasicRequestContext,
        next: (Request, BasicRequestContext) async throws -> Response
    ) async throws -> Response {
        let response = try await next(request, context)
        metrics.countRequest(
            method: Self.known.contains(request.method) ? request.method.rawValue : "other",
            route: context.endpointPath ?? "unknown", status: response.status.code)
        return response
    }
}

/// Turns whatever a route throws into an error in OpenAI's form.
struct ErrorMiddleware: RouterMiddleware {
    typealias Context = BasicRequestContext

    func handle(
        _ request: Request, context: BasicRequestContext,
        next: (Request, BasicRequestContext) async throws -> Response
    ) async throws -> Response {
        do {
            return try await next(request, context)
        } catch let failure as HTTPFailure {
            log(failure, request, context)
            return failure.response()
        } catch let failure as Failure {
            let answer = HTTPFailure(failure)
            log(answer, request, context)
            return answer.response()
        } catch let error as HTTPError where error.status == .notFound {
            return HTTPFailure(
                .notFound,
                Failure(
                    "route_not_found", "There is no \(request.method.rawValue) \(request.uri.path.prefix(200)).",
                    remedy: "The interface is /v1/videos; see docs/operations.md.")
            ).response()
        } catch let error as HTTPError {
            return HTTPFailure(error.status, Failure("request_invalid", "\(error)")).response()
        } catch {
            context.logger.error("request failed", metadata: ["path": "\(request.uri.path)", "error": "\(error)"])
            return HTTPFailure(
                .internalServerError, Failure("internal_error", "The gateway failed to answer; its log says why.")
            ).response()
        }
    }

    private func log(_ failure: HTTPFailure, _ request: Request, _ context: BasicRequestContext) {
        context.logger.log(
            level: failure.status.code >= 500 ? .error : .debug, "request refused",
            metadata: [
                "method": "\(request.method.rawValue)", "path": "\(request.uri.path)",
                "status": "\(failure.status.code)", "code": "\(failure.failure.code)",
                "message": "\(failure.failure.message)",
            ])
    }
}

/// Keeps pages of other sites from using a gateway that only this machine's user should reach: a browser names the page's
/// origin with every request that changes something.
struct OriginMiddleware: RouterMiddleware {
    typealias Context = BasicRequestContext

    func handle(
        _ request: Request, context: BasicRequestContext,
        next: (Request, BasicRequestContext) async throws -> Response
    ) async throws -> Response {
        if let origin = request.headers[.origin], request.method != .get, request.method != .head {
            let host = origin.split(separator: "/").last.map(String.init) ?? ""
            guard host == request.head.authority else {
                throw HTTPFailure(
                    .forbidden,
                    Failure(
                        "origin_forbidden", "A page of \(origin.prefix(80)) may not use this gateway.", field: "Origin",
                        remedy: "Use the gateway's own page or a client that is no browser."))
            }
        }
        return try await next(request, context)
    }
}
