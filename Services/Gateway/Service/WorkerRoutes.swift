import Failure
import FoundationEssentials
import Hummingbird
import NIOCore
import Request
import Wire

/// `GET /v1/workers` and `POST /v1/drain`: who is there, and who is to leave.
struct WorkerRoutes: Sendable {
    private static let limitBytes = 4096
    /// Pages of jobs that are looked through for names of adapters.
    private static let pagesForNames = 4

    let service: any JobService

    func add(to router: Router<BasicRequestContext>, _ administration: AdminMiddleware) {
        router.get("/v1/workers") { _, _ in try await list() }
        router.group().add(middleware: administration)
            .post("/v1/drain") { request, _ in try await drain(request) }
    }

    private struct Worker: Encodable {
        let name: String
        let stages: [String]
        let slots: UInt32
        let busy: UInt32
        let draining: Bool
        let millisecondsSinceBeat: UInt64
        /// Weights that a denoiser could begin with at once.
        let warm: [Warm]

        enum CodingKeys: String, CodingKey {
            case name, stages, slots, busy, draining, warm
            case millisecondsSinceBeat = "ms_since_beat"
        }
    }

    private struct Warm: Encodable {
        struct Use: Encodable {
            let name: String
            let weight: Double
        }

        let dtype: String
        /// Empty without adapters, null where no recent job names those that are merged in.
        let loras: [Use]?
        /// What tells sets of adapters apart, in the first twelve digits; absent without.
        let adapters: String?
    }

    private struct Cell: Encodable {
        let name: String
        let reachable: Bool
        /// Whether this broker takes no new jobs.
        let draining: Bool
        let workers: Int
        let queuedJobs: UInt32
        let runningJobs: UInt32

        enum CodingKeys: String, CodingKey {
            case name, reachable, draining, workers
            case queuedJobs = "queued_jobs"
            case runningJobs = "running_jobs"
        }

        init(_ report: CellReport) {
            name = report.name
            reachable = report.cluster != nil
            draining = report.cluster?.isDraining ?? false
            workers = report.cluster?.workers.count ?? 0
            queuedJobs = report.cluster?.queuedJobs ?? 0
            runningJobs = report.cluster?.runningJobs ?? 0
        }
    }

    private struct List: Encodable {
        let object = "list"
        let data: [Worker]
        /// Whether no broker takes new jobs.
        let draining: Bool
        let cells: [Cell]
        /// What somebody should look at.
        let notes: [String]
    }

    private func list() async throws -> Response {
        let reports = await service.cells()
        let clusters = reports.compactMap(\.cluster)
        if clusters.isEmpty, let problem = reports.first?.problem { throw HTTPFailure(problem) }
        let cluster = CellJobService.union(clusters)
        let adapters = await adapters(of: cluster)
        let workers = cluster.workers.map { worker in
            Worker(
                name: worker.worker, stages: worker.capabilities.map(\.stage), slots: worker.slots, busy: worker.busy,
                draining: worker.isDraining, millisecondsSinceBeat: worker.millisecondsSinceBeat,
                warm: worker.warm.map { affinity in
                    let ready = ReadyWeights(affinity: affinity)
                    let uses = ready.adapters.isEmpty ? [] : adapters[ready.adapters]
                    return Warm(
                        dtype: ready.dtype, loras: uses?.map { Warm.Use(name: $0.name, weight: $0.weight) },
                        adapters: ready.adapters.isEmpty ? nil : String(ready.adapters.prefix(12)))
                })
        }
        return JSONAnswer.response(
            List(
                data: workers, draining: cluster.isDraining, cells: reports.map { Cell($0) },
                notes: ServiceNotes.of(reports)))
    }

    /// The adapters behind the digests that workers name, as far as the latest jobs tell: a beat knows contents and
    /// weights, and only requests have names.
    private func adapters(of cluster: ClusterStatus) async -> [String: [AdapterUse]] {
        var unknown = Set(
            cluster.workers.flatMap(\.warm).map { ReadyWeights(affinity: $0).adapters }.filter { $0 != "" })
        var found: [String: [AdapterUse]] = [:], before = ""
        for _ in 0..<Self.pagesForNames where !unknown.isEmpty {
            guard let page = try? await service.list(before: before, limit: Limits.jobsPerPage) else { break }
            for job in page.jobs {
                guard let request = try? CanonicalJSON.decode(GenerationRequest.self, from: job.specification),
                    let uses = request.loras?.effective, unknown.remove(uses.identity) != nil
                else { continue }
                found[uses.identity] = uses
            }
            guard page.hasMore, let last = page.jobs.last?.job else { break }
            before = last
        }
        return found
    }

    /// Exactly one of the first three; `cell` and `resume` go with `broker`.
    private struct Order: Decodable {
        var worker: String?
        var stage: String?
        var broker: Bool?
        var cell: String?
        var resume: Bool?
    }

    private struct Answer: Encodable {
        let workers: [String]
        let broker: Bool
    }

    private func drain(_ request: Hummingbird.Request) async throws -> Response {
        let order = try await order(request)
        let given = [order.worker != nil, order.stage != nil, order.broker == true].count { $0 }
        let isResumable = order.broker == true || (order.resume != true && order.cell == nil)
        guard given == 1, isResumable, order.worker != "", order.stage != "",
            (order.worker ?? order.stage ?? "").utf8.count <= Limits.nameBytes
        else {
            throw HTTPFailure(
                .badRequest,
                Failure(
                    "drain_ambiguous", "Exactly one of worker, stage and broker says who is to drain.", field: "worker",
                    remedy:
                        "Send {\"worker\": NAME}, {\"stage\": NAME} or {\"broker\": true}, the last with \"cell\" and \"resume\" too."
                ))
        }
        let drain = Drain(
            worker: order.worker ?? "", stage: order.stage ?? "", broker: order.broker ?? false,
            resume: order.resume ?? false)
        let answer = try await HTTPFailure.fromBroker { () async throws(Failure) in
            try await service.drain(drain, cell: order.cell)
        }
        return JSONAnswer.response(Answer(workers: answer.workers, broker: answer.broker))
    }

    private func order(_ request: Hummingbird.Request) async throws -> Order {
        do {
            let body = try await request.body.collect(upTo: Self.limitBytes)
            return try JSONDecoder().decode(Order.self, from: Data(Array(buffer: body)))
        } catch is NIOTooManyBytesError {
            throw HTTPFailure(
                .contentTooLarge, Failure("body_too_large", "The body exceeds \(Self.limitBytes) bytes."))
        } catch is DecodingError {
            throw HTTPFailure(
                .badRequest, Failure("body_not_json", "The body is no JSON object of worker, stage, broker and resume.")
            )
        }
    }
}
