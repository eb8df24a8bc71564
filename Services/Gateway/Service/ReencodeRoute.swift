import Failure
import Hummingbird
import Logging
import Request
import Wire

/// `POST /v1/videos/{id}/reencode`: another container or frame rate from the latents that a job has left.
struct ReencodeRoute: Sendable {
    let service: any JobService
    let traits: ModelTraits
    let metrics: GatewayMetrics

    func add(to router: Router<BasicRequestContext>) {
        router.post("/v1/videos/:id/reencode") { request, context in try await reencode(request, context) }
    }

    /// The body holds `container`, `fps` or both; the answer is the new job, as `POST /v1/videos` gives it.
    private func reencode(_ request: Hummingbird.Request, _ context: BasicRequestContext) async throws -> Response {
        let job = try VideoRoutes.job(context)
        let draft = try await RequestBodyReader.draft(of: request)
        let headers = try SubmissionHeaders(request.headers)
        let status = try await HTTPFailure.fromBroker { () async throws(Failure) in try await service.status(job: job) }
        guard let latents = status.outputs.first(where: { $0.name == "denoise.latents" })?.ref else {
            throw HTTPFailure(
                .conflict,
                Failure(
                    "latents_absent", "The job has no latents of its own to encode again.", field: "id",
                    remedy: "Wait until it has denoised; of a job that was itself encoded again, name the first one."))
        }
        let prompt = JobGraph.writtenPrompt(in: Dictionary(status.outputs.map { ($0.name, $0.ref) }) { $1 })
        let submit = try HTTPFailure.badRequest { () throws(Failure) in
            let original = try CanonicalJSON.decode(GenerationRequest.self, from: status.specification)
            return try JobGraph.reencode(
                draft.reencoding(original, traits: traits), latents: latents, of: job, prompt: prompt,
                traits: traits,
                idempotencyKey: headers.idempotencyKey, tenant: headers.tenant, priority: headers.priority,
                deadlineMilliseconds: headers.deadlineMilliseconds)
        }
        let accepted = try await HTTPFailure.fromBroker { () async throws(Failure) in
            try await service.submit(submit)
        }
        metrics.countJob(replayed: accepted.replayed)
        context.logger.info("job encoded again", metadata: ["job": "\(job)", "as": "\(accepted.job)"])
        return try await VideoRoutes.answer(accepted, service: service)
    }
}
