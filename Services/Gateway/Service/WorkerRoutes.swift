import Failure
import FoundationEssentials
import Hummingbird
import NIOCore
import Wire

/// `GET /v1/workers` and `POST /v1/drain`: who is there, and who is to leave.
struct WorkerRoutes: Sendable {
    private static let limitBytes = 4096

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

        enum CodingKeys: String, CodingKey {
            case name, stages, slots, busy, draining
            case millisecondsSinceBeat = "ms_since_beat"
        }
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
        let workers = cluster.workers.map { worker in
            Worker(
                name: worker.worker, stages: worker.capabilities.map(\.stage), slots: worker.slots, busy: worker.busy,
                draining: worker.isDraining, millisecondsSinceBeat: worker.millisecondsSinceBeat)
        }
        return JSONAnswer.response(
            List(
                data: workers, draining: cluster.isDraining, cells: reports.map { Cell($0) },
                notes: ServiceNotes.of(reports)))
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
