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

        /// `ok`, `incomplete` or `broker_unreachable`.
        var status: String
        var model: String
        /// Stages without a worker for the served model.
        var missing: [String]
        var stages: [String: Stage]
        var queuedJobs: Int
        var runningJobs: Int

        enum CodingKeys: String, CodingKey {
            case status, model, missing, stages
            case queuedJobs = "queued_jobs"
            case runningJobs = "running_jobs"
        }
    }

    /// 200 when a video can be made now: the broker answers and every stage has a worker for the model.
    private func health() async -> Response {
        var health = Health(
            status: "broker_unreachable", model: traits.name, missing: [], stages: [:], queuedJobs: 0, runningJobs: 0)
        let needed = StageName.needed(for: .video)
        do throws(Failure) {
            let cluster = try await service.cluster()
            health.queuedJobs = Int(cluster.queuedJobs)
            health.runningJobs = Int(cluster.runningJobs)
            for stage in StageName.allCases { health.stages[stage.rawValue] = summary(cluster, stage) }
            health.missing = needed.map(\.rawValue).filter { (health.stages[$0]?.workers ?? 0) == 0 }
            health.status = health.missing.isEmpty ? "ok" : "incomplete"
        } catch {
            health.missing = ["broker"]
        }
        return JSONAnswer.response(health, status: health.status == "ok" ? .ok : .serviceUnavailable)
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
        let cluster = try? await service.cluster()
        return Response(
            status: .ok, headers: [.contentType: "text/plain; version=0.0.4; charset=utf-8"],
            body: ResponseBody(byteBuffer: ByteBuffer(string: metrics.exposition(cluster))))
    }
}
