import Failure
import Hummingbird
import Logging
import Request
import Wire

/// `/v1/dead`: jobs that failed or died, what killed them, and another try.
struct DeadRoutes: Sendable {
    let service: any JobService
    let metrics: GatewayMetrics

    func add(to router: Router<BasicRequestContext>, _ administration: AdminMiddleware) {
        let group = router.group().add(middleware: administration)
        group.get("/v1/dead") { request, _ in try await list(request) }
        group.get("/v1/dead/:id") { _, context in try await show(context) }
        group.post("/v1/dead/:id/retry") { request, context in try await retry(request, context) }
    }

    private struct Page: Encodable {
        let object = "list"
        let data: [DeadObject]
        let hasMore: Bool

        enum CodingKeys: String, CodingKey {
            case object, data
            case hasMore = "has_more"
        }
    }

    /// Newest first; `after` is the last id of the page before, `limit` 1 to 100 (20).
    private func list(_ request: Hummingbird.Request) async throws -> Response {
        let query = request.uri.queryParameters
        let limit = try VideoRoutes.pageLimit(query["limit"].map { String($0) })
        var before = try VideoRoutes.pageStart(query["after"].map { String($0) })
        var jobs: [DeadJob] = []
        var hasMore = true
        while jobs.count < limit && hasMore {
            let wanted = UInt32(min(limit - jobs.count, Limits.jobsPerPage))
            let page = try await HTTPFailure.fromBroker { [before] () async throws(Failure) in
                try await service.dead(DeadQuery(job: "", before: before, limit: wanted))
            }
            jobs += page.jobs
            hasMore = page.hasMore && !page.jobs.isEmpty
            before = page.jobs.last?.job ?? before
        }
        return JSONAnswer.response(Page(data: jobs.map { DeadObject($0) }, hasMore: hasMore))
    }

    private func show(_ context: BasicRequestContext) async throws -> Response {
        let job = try VideoRoutes.job(context)
        let page = try await HTTPFailure.fromBroker { () async throws(Failure) in
            try await service.dead(DeadQuery(job: job))
        }
        guard let dead = page.jobs.first else {
            throw HTTPFailure(Failure("job_not_found", "There is no job \(job).", field: "id"))
        }
        return JSONAnswer.response(DeadObject(dead))
    }

    /// Answers with the new job as `POST /v1/videos` does.
    private func retry(_ request: Hummingbird.Request, _ context: BasicRequestContext) async throws -> Response {
        let job = try VideoRoutes.job(context)
        let key = try SubmissionHeaders.idempotencyKey(request.headers)
        let accepted = try await HTTPFailure.fromBroker { () async throws(Failure) in
            try await service.retry(DeadRetry(job: job, idempotencyKey: key))
        }
        metrics.countJob(replayed: accepted.replayed)
        context.logger.info("job retried", metadata: ["job": "\(job)", "as": "\(accepted.job)"])
        return try await VideoRoutes.answer(accepted, service: service)
    }
}
