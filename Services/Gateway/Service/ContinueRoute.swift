import Failure
import Hummingbird
import Logging
import Request
import Wire

/// `POST /v1/videos/{id}/continue`: a new job that goes on where a draft stopped.
struct ContinueRoute: Sendable {
    let service: any JobService
    let traits: ModelTraits
    let metrics: GatewayMetrics

    func add(to router: Router<BasicRequestContext>) {
        router.post("/v1/videos/:id/continue") { request, context in try await proceed(request, context) }
    }

    /// No body; the answer is the new job, as `POST /v1/videos` gives it.
    private func proceed(_ request: Hummingbird.Request, _ context: BasicRequestContext) async throws -> Response {
        let job = try VideoRoutes.job(context)
        let headers = try SubmissionHeaders(request.headers)
        let status = try await HTTPFailure.fromBroker { () async throws(Failure) in try await service.status(job: job) }
        let outputs = Dictionary(status.outputs.map { ($0.name, $0.ref) }) { $1 }
        let submit = try HTTPFailure.badRequest { () throws(Failure) in
            try JobGraph.continued(
                CanonicalJSON.decode(GenerationRequest.self, from: status.specification), outputs: outputs, of: job,
                traits: traits, idempotencyKey: headers.idempotencyKey, tenant: headers.tenant,
                priority: headers.priority, deadlineMilliseconds: headers.deadlineMilliseconds)
        }
        let accepted = try await HTTPFailure.fromBroker { () async throws(Failure) in
            try await service.submit(submit)
        }
        metrics.countJob(replayed: accepted.replayed)
        context.logger.info("draft continued", metadata: ["job": "\(job)", "as": "\(accepted.job)"])
        return try await VideoRoutes.answer(accepted, service: service)
    }
}
