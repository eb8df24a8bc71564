import Failure
import Hummingbird
import Logging
import Request
import Tensor
import Wire

/// `POST`, `GET` and `DELETE` under `/v1/videos`: jobs as OpenAI's Video objects.
struct VideoRoutes: Sendable {
    let service: any JobService
    let traits: ModelTraits
    let metrics: GatewayMetrics
    private let sources: SourceFrames
    private let shelf: AdapterShelf

    init(service: any JobService, traits: ModelTraits, metrics: GatewayMetrics, shelf: AdapterShelf) {
        self.shelf = shelf
        self.service = service
        self.traits = traits
        self.metrics = metrics
        sources = SourceFrames(service: service)
    }

    func add(to router: Router<BasicRequestContext>) {
        router.post("/v1/videos") { request, context in try await create(request, context) }
        router.get("/v1/videos") { request, _ in try await list(request) }
        router.get("/v1/videos/:id") { _, context in try await retrieve(context) }
        router.delete("/v1/videos/:id") { _, context in try await delete(context) }
    }

    /// The job id in the path; a name that no job can have is not found without asking the broker.
    static func job(_ context: BasicRequestContext) throws(HTTPFailure) -> String {
        let id = context.parameters.get("id") ?? ""
        let isPlausible =
            (1...Limits.nameBytes).contains(id.utf8.count)
            && id.utf8.allSatisfy { (UInt8(ascii: "!")...UInt8(ascii: "~")).contains($0) }
        guard isPlausible else {
            throw HTTPFailure(
                .notFound, Failure("job_not_found", "There is no video \"\(id.prefix(80))\".", field: "id"))
        }
        return id
    }

    // MARK: Create

    private func create(_ request: Hummingbird.Request, _ context: BasicRequestContext) async throws -> Response {
        let draft = try await RequestBodyReader.draft(of: request)
        let kind = try HTTPFailure.badRequest { () throws(Failure) in try draft.checkedConditioning(traits) }
        let source = try await sources.source(of: draft, as: kind)
        var generation = try HTTPFailure.badRequest { () throws(Failure) in
            try draft.resolved(for: traits, sourceFrames: kind == .image ? nil : source?.frames.shape[0])
        }
        generation = try await shelf.resolved(generation)
        generation.notes += source?.notes ?? []
        let available = generation.upsamplePrompt ? try await upsamplerAvailable() : true
        let caption = try await sources.caption(of: draft, for: generation)
        if caption != nil { try await requireCaptioner() }
        let headers = try SubmissionHeaders(request.headers)
        let latents = try await InitialLatents(service: service, traits: traits).reference(draft, for: generation)
        var pixels: TensorRef?
        if let source { pixels = try await sources.stored(source, for: generation) }
        let several = try HTTPFailure.badRequest { () throws(Failure) in try SeveralVideos(draft) }
        let submits = try HTTPFailure.badRequest {
            [generation, pixels, input = source?.input] () throws(Failure) -> [Submit] in
            var submits: [Submit] = []
            for (index, request) in try (several?.requests(generation) ?? [generation]).enumerated() {
                submits.append(
                    try JobGraph.submit(
                        for: request, traits: traits, initialLatents: latents, pixels: pixels, source: input,
                        upsamplerAvailable: available, caption: caption, variant: several?.variant(index),
                        idempotencyKey: several?.key(headers.idempotencyKey, index) ?? headers.idempotencyKey,
                        tenant: headers.tenant, priority: headers.priority,
                        deadlineMilliseconds: headers.deadlineMilliseconds))
            }
            return submits
        }
        let accepted = try await submitAll(submits, context)
        guard several != nil else { return try await Self.answer(accepted[0], service: service) }
        return try await Self.answer(accepted, service: service)
    }

    /// All of them or, where no key lets the request be repeated, none.
    private func submitAll(_ submits: [Submit], _ context: BasicRequestContext) async throws -> [Accepted] {
        var accepted: [Accepted] = []
        for submit in submits {
            do throws(Failure) {
                accepted.append(try await service.submit(submit))
            } catch {
                for job in accepted where submit.idempotencyKey.isEmpty { _ = try? await service.cancel(job: job.job) }
                throw HTTPFailure(error)
            }
        }
        for job in accepted {
            metrics.countJob(replayed: job.replayed)
            context.logger.info("job accepted", metadata: ["job": "\(job.job)", "replayed": "\(job.replayed)"])
        }
        return accepted
    }

    /// Several new jobs as they are now, in the order of their seeds.
    private static func answer(_ accepted: [Accepted], service: any JobService) async throws -> Response {
        var jobs: [JobStatus] = []
        for job in accepted {
            jobs.append(
                try await HTTPFailure.fromBroker { () async throws(Failure) in try await service.status(job: job.job) })
        }
        var response = JSONAnswer.response(
            Page(
                data: jobs.map { VideoObject($0) }, firstID: jobs.first?.job, lastID: jobs.last?.job, hasMore: false,
                absentCells: nil))
        if accepted.allSatisfy(\.replayed) { response.headers.set("Idempotent-Replayed", to: "true") }
        return response
    }

    /// The new job as it is now.
    static func answer(_ accepted: Accepted, service: any JobService) async throws -> Response {
        let status = try await HTTPFailure.fromBroker { () async throws(Failure) in
            try await service.status(job: accepted.job)
        }
        var response = answer(status)
        response.headers[.location] = "/v1/videos/\(accepted.job)"
        if accepted.replayed { response.headers.set("Idempotent-Replayed", to: "true") }
        return response
    }

    /// A caption cannot be had otherwise, as an upsampled prompt can.
    private func requireCaptioner() async throws(HTTPFailure) {
        guard try await !upsamplerAvailable() else { return }
        throw HTTPFailure(
            .serviceUnavailable,
            Failure(
                "captioner_missing", "Nobody is connected who could caption the clip.", field: "caption_of",
                remedy: "Start zoetrope-prompt-upsampler with --base-url of a chat service that sees pictures."))
    }

    private func upsamplerAvailable() async throws(HTTPFailure) -> Bool {
        let cluster = try await HTTPFailure.fromBroker { () async throws(Failure) in try await service.cluster() }
        return cluster.workers.contains { worker in
            worker.capabilities.contains { $0.stage == StageName.promptUpsampler.rawValue }
        }
    }

    // MARK: Read

    private func retrieve(_ context: BasicRequestContext) async throws -> Response {
        let job = try Self.job(context)
        return Self.answer(
            try await HTTPFailure.fromBroker { () async throws(Failure) in try await service.status(job: job) })
    }

    private static func answer(_ status: JobStatus) -> Response {
        var response = JSONAnswer.response(VideoObject(status))
        // The official client's polling helpers ask again after so long.
        if !status.state.isTerminal { response.headers.set("openai-poll-after-ms", to: "500") }
        return response
    }

    private struct Page: Encodable {
        let object = "list"
        let data: [VideoObject]
        let firstID: String?
        let lastID: String?
        let hasMore: Bool
        /// Cells whose jobs are not in the page because their brokers do not answer.
        let absentCells: [String]?

        enum CodingKeys: String, CodingKey {
            case object, data
            case absentCells = "x_unreachable_cells"
            case firstID = "first_id"
            case lastID = "last_id"
            case hasMore = "has_more"
        }
    }

    /// Newest first; `after` is the last id of the page before, `limit` 1 to 100 (20).
    private func list(_ request: Hummingbird.Request) async throws -> Response {
        let query = request.uri.queryParameters
        let limit = try Self.pageLimit(query["limit"].map { String($0) })
        if let order = query["order"], order != "desc" {
            throw HTTPFailure(
                .badRequest,
                Failure(
                    "order_unsupported", "order is \"\(order.prefix(40))\".", field: "order",
                    remedy: "Jobs are listed newest first: use desc or leave it out."))
        }
        var before = try Self.pageStart(query["after"].map { String($0) })
        var jobs: [JobStatus] = []
        var hasMore = true
        while jobs.count < limit && hasMore {
            let wanted = min(limit - jobs.count, Limits.jobsPerPage)
            let page = try await HTTPFailure.fromBroker { [before] () async throws(Failure) in
                try await service.list(before: before, limit: wanted)
            }
            jobs += page.jobs
            hasMore = page.hasMore && !page.jobs.isEmpty
            before = page.jobs.last?.job ?? before
        }
        let absent = await service.absentCells()
        return JSONAnswer.response(
            Page(
                data: jobs.map { VideoObject($0) }, firstID: jobs.first?.job, lastID: jobs.last?.job,
                hasMore: hasMore, absentCells: absent.isEmpty ? nil : absent))
    }

    /// The job that a page begins after; empty for the first page.
    static func pageStart(_ text: String?) throws(HTTPFailure) -> String {
        let before = text ?? ""
        guard before.utf8.count <= Limits.nameBytes else {
            throw HTTPFailure(
                .badRequest,
                Failure("after_invalid", "after is no video id.", field: "after", remedy: "Use the last_id of a page."))
        }
        return before
    }

    /// Jobs in a page.
    static func pageLimit(_ text: String?) throws(HTTPFailure) -> Int {
        guard let text else { return 20 }
        guard let limit = Int(text), (1...100).contains(limit) else {
            throw HTTPFailure(
                .badRequest,
                Failure(
                    "limit_out_of_range", "limit is \"\(text.prefix(40))\".", field: "limit", remedy: "Use 1 to 100."))
        }
        return limit
    }

    // MARK: Delete

    private struct Deletion: Encodable {
        let id: String
        let object = "video.deleted"
        let deleted: Bool
        /// Why a job was not deleted: its terminal state, which came first.
        let state: String?

        enum CodingKeys: String, CodingKey {
            case id, object, deleted
            case state = "x_state"
        }
    }

    /// Cancels a job that is not over. One that is over stays with its files until the broker's retention ends, and the
    /// answer says `deleted: false`.
    private func delete(_ context: BasicRequestContext) async throws -> Response {
        let job = try Self.job(context)
        let outcome = try await HTTPFailure.fromBroker { () async throws(Failure) in try await service.cancel(job: job)
        }
        let isCancelled = outcome.state == .cancelled
        return JSONAnswer.response(
            Deletion(id: job, deleted: isCancelled, state: isCancelled ? nil : "\(outcome.state)"))
    }
}
