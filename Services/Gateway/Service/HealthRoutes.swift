import Failure
import Hummingbird
import Request
import Wire

/// `GET /healthz` and `GET /metrics`.
struct HealthRoutes: Sendable {
    let service: any JobService
    let traits: ModelTraits
    let metrics: GatewayMetrics

    func add(to router: Router<BasicRequestContext>) {
        router.get("/healthz") { _, _ in await health() }
        router.get("/metrics") { _, _ in await exposition() }
    }

    private struct Health: Encodable {
        struct Stage: Encodable {
            var workers = 0
            var slots = 0
            var busy = 0
        }

        /// A broker and what it alone could do.
        struct Cell: Encodable {
            var name: String
            var status: String
            var missing: [String]
            var queuedJobs: Int
            var runningJobs: Int

            enum CodingKeys: String, CodingKey {
                case name, status, missing
                case queuedJobs = "queued_jobs"
                case runningJobs = "running_jobs"
            }
        }

        /// `ok`, `incomplete` or `broker_unreachable`.
        var status: String
        var model: String
        /// Stages without a worker for the served model.
        var missing: [String]
        var stages: [String: Stage]
        var queuedJobs: Int
        var runningJobs: Int
        var cells: [Cell]
        /// What somebody should look at, healthy or not.
        var notes: [String]

        enum CodingKeys: String, CodingKey {
            case status, model, missing, stages, cells, notes
            case queuedJobs = "queued_jobs"
            case runningJobs = "running_jobs"
        }
    }

    /// 200 when a video can be made now: a broker answers and every stage has a worker of its for the model.
    private func health() async -> Response {
        let reports = await service.cells()
        let union = CellJobService.union(reports.compactMap(\.cluster))
        var health = Health(
            status: "broker_unreachable", model: traits.name, missing: ["broker"], stages: [:],
            queuedJobs: Int(union.queuedJobs), runningJobs: Int(union.runningJobs), cells: reports.map(cell),
            notes: ServiceNotes.of(reports))
        if reports.contains(where: { $0.cluster != nil }) {
            for stage in StageName.allCases { health.stages[stage.rawValue] = summary(union, stage) }
            // What one cell lacks another one's workers cannot do for it.
            let answering = health.cells.filter { $0.status != "broker_unreachable" }
            health.missing = answering.map(\.missing).min { $0.count < $1.count } ?? []
            health.status = health.missing.isEmpty ? "ok" : "incomplete"
        }
        return JSONAnswer.response(health, status: health.status == "ok" ? .ok : .serviceUnavailable)
    }

    private func cell(_ report: CellReport) -> Health.Cell {
        guard let cluster = report.cluster else {
            return Health.Cell(
                name: report.name, status: "broker_unreachable", missing: [], queuedJobs: 0, runningJobs: 0)
        }
        let missing = StageName.needed(for: .video).filter { summary(cluster, $0).workers == 0 }.map(\.rawValue)
        return Health.Cell(
            name: report.name, status: missing.isEmpty ? "ok" : "incomplete", missing: missing,
            queuedJobs: Int(cluster.queuedJobs), runningJobs: Int(cluster.runningJobs))
    }

    private func summary(_ cluster: ClusterStatus, _ stage: StageName) -> Health.Stage {
        var result = Health.Stage()
        for worker in cluster.workers {
            let serves = worker.capabilities.contains {
                $0.stage == stage.rawValue && ($0.model.isEmpty || $0.model == traits.digest)
            }
            guard serves else { continue }
            result.workers += 1
            result.slots += Int(worker.slots)
            result.busy += Int(worker.busy)
        }
        return result
    }

    private func exposition() async -> Response {
        let reports = await service.cells()
        return Response(
            status: .ok, headers: [.contentType: "text/plain; version=0.0.4; charset=utf-8"],
            body: ResponseBody(byteBuffer: ByteBuffer(string: metrics.exposition(reports))))
    }
}
