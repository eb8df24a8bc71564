import Request
import Runtime
import Synchronization
import Wire

/// Counters of this process and, asked from the broker at each scrape, gauges of the cluster.
final class GatewayMetrics: Sendable {
    private struct Request: Hashable {
        let method: String
        let route: String
        let status: Int
    }

    private struct Counters {
        var requests: [Request: Int] = [:]
        var submitted = 0
        var replayed = 0
        var adminRefusals = 0
    }

    private let counters = Mutex(Counters())

    func countRequest(method: String, route: String, status: Int) {
        counters.withLock { $0.requests[Request(method: method, route: route, status: status), default: 0] += 1 }
    }

    func countJob(replayed: Bool) {
        counters.withLock { counters in
            if replayed { counters.replayed += 1 } else { counters.submitted += 1 }
        }
    }

    func countAdminRefusal() { counters.withLock { $0.adminRefusals += 1 } }

    /// The Prometheus text format 0.0.4. A broker that does not answer has `zoetrope_broker_up` 0 and no other gauges;
    /// brokers are told apart by the label `cell`, workers by stage and counted once, whoever they serve.
    func exposition(_ cells: [CellReport]) -> String {
        let counters = counters.withLock { $0 }
        var lines = ["# TYPE zoetrope_http_requests_total counter"]
        lines += counters.requests.map { request, count in
            "zoetrope_http_requests_total{method=\"\(request.method)\",route=\"\(request.route)\","
                + "status=\"\(request.status)\"} \(count)"
        }.sorted()
        lines += [
            "# TYPE zoetrope_jobs_submitted_total counter", "zoetrope_jobs_submitted_total \(counters.submitted)",
            "# TYPE zoetrope_jobs_replayed_total counter", "zoetrope_jobs_replayed_total \(counters.replayed)",
            "# TYPE zoetrope_admin_refusals_total counter",
            "zoetrope_admin_refusals_total \(counters.adminRefusals)",
        ]
        lines += gauge("zoetrope_broker_up", cells) { $0.cluster == nil ? 0 : 1 }
        lines += descriptors(cells)
        let clusters = cells.compactMap(\.cluster)
        if !clusters.isEmpty {
            lines += gauge("zoetrope_jobs_queued", cells) { $0.cluster.map { Int($0.queuedJobs) } }
            lines += gauge("zoetrope_jobs_running", cells) { $0.cluster.map { Int($0.runningJobs) } }
            let union = CellJobService.union(clusters)
            lines += workers(union) + fetched(union) + previews(union) + security(cells)
        }
        return lines.joined(separator: "\n") + "\n"
    }

    private func gauge(_ name: String, _ cells: [CellReport], _ value: (CellReport) -> Int?) -> [String] {
        ["# TYPE \(name) gauge"] + samples(name, cells, value)
    }

    /// One line a cell that has the value. `labels` (`reason="role"`) stand before the cell's.
    private func samples(
        _ name: String, _ cells: [CellReport], labels: String = "", _ value: (CellReport) -> Int?
    ) -> [String] {
        cells.compactMap { cell in
            let label = cells.count == 1 || cell.name.isEmpty ? "" : "cell=\"\(cell.name)\""
            let all = [labels, label].filter { !$0.isEmpty }
            return value(cell).map { "\(name)\(all.isEmpty ? "" : "{\(all.joined(separator: ","))}") \($0)" }
        }
    }

    /// What the connected workers have fetched since each of them started.
    private func fetched(_ cluster: ClusterStatus) -> [String] {
        var sums: [String: FetchCounters] = [:]
        for worker in cluster.workers {
            for stage in Set(worker.capabilities.map(\.stage)) {
                sums[stage, default: FetchCounters()].add(worker.fetched)
            }
        }
        let stages = sums.sorted { $0.key < $1.key }
        func counter(_ name: String, _ ways: [(String, KeyPath<FetchCounters, UInt64>)]) -> [String] {
            ["# TYPE \(name) counter"]
                + stages.flatMap { stage, sum in
                    ways.map { way, path in
                        "\(name){stage=\"\(stage)\"\(way.isEmpty ? "" : ",way=\"\(way)\"")} \(sum[keyPath: path])"
                    }
                }
        }
        return counter("zoetrope_fetched_blobs_total", [("memory", \.memoryBlobs), ("socket", \.socketBlobs)])
            + counter("zoetrope_fetched_bytes_total", [("memory", \.memoryBytes), ("socket", \.socketBytes)])
            + counter("zoetrope_shared_memory_fallbacks_total", [("", \.fallbacks)])
    }

    /// Previews that the connected workers have made since each of them started; the stages that make any.
    private func previews(_ cluster: ClusterStatus) -> [String] {
        let makers = cluster.workers.filter { worker in
            worker.capabilities.contains { $0.stage == StageName.denoiser.rawValue }
        }
        let name = "zoetrope_previews_total"
        return ["# TYPE \(name) counter", "\(name) \(makers.reduce(0) { $0 + $1.previews })"]
    }

    /// What the brokers have turned away since their start, by reason, and who came in.
    private func security(_ cells: [CellReport]) -> [String] {
        func samples(_ name: String, _ count: BrokerCount, labels: String = "") -> [String] {
            self.samples(name, cells, labels: labels) { $0.cluster?.count(count).map { Int($0) } }
        }
        func counter(_ name: String, _ lines: [String]) -> [String] {
            lines.isEmpty ? [] : ["# TYPE \(name) counter"] + lines
        }
        let refusals = BrokerCount.allCases.flatMap { count in
            count.refusalReason.map { samples("zoetrope_refusals_total", count, labels: "reason=\"\($0)\"") } ?? []
        }
        return counter("zoetrope_refusals_total", refusals)
            + counter("zoetrope_handshakes_total", samples("zoetrope_handshakes_total", .handshakesAdmitted))
            + counter("zoetrope_sessions_revoked_total", samples("zoetrope_sessions_revoked_total", .sessionsRevoked))
    }

    /// File descriptors of this process and of the brokers.
    private func descriptors(_ cells: [CellReport]) -> [String] {
        let own = DescriptorUse.current()
        func gauge(_ name: String, _ broker: BrokerCount, _ value: Int) -> [String] {
            ["# TYPE \(name) gauge", "\(name){process=\"gateway\"} \(value)"]
                + samples(name, cells, labels: "process=\"broker\"") { $0.cluster?.count(broker).map { Int($0) } }
        }
        return gauge("zoetrope_descriptors_used", .descriptorsUsed, own.used)
            + gauge("zoetrope_descriptors_limit", .descriptorsLimit, own.limit)
    }

    private func workers(_ cluster: ClusterStatus) -> [String] {
        var counts: [String: (slots: Int, busy: Int, workers: Int)] = [:]
        for worker in cluster.workers {
            for stage in Set(worker.capabilities.map(\.stage)) {
                counts[stage, default: (0, 0, 0)].workers += 1
                counts[stage, default: (0, 0, 0)].slots += Int(worker.slots)
                counts[stage, default: (0, 0, 0)].busy += Int(worker.busy)
            }
        }
        let stages = counts.sorted { $0.key < $1.key }
        func gauge(_ name: String, _ value: (_ stage: (slots: Int, busy: Int, workers: Int)) -> Int) -> [String] {
            ["# TYPE \(name) gauge"] + stages.map { "\(name){stage=\"\($0.key)\"} \(value($0.value))" }
        }
        return gauge("zoetrope_workers", \.workers) + gauge("zoetrope_slots", \.slots)
            + gauge("zoetrope_slots_busy", \.busy)
    }
}

extension FetchCounters {
    mutating func add(_ other: FetchCounters) {
        memoryBlobs += other.memoryBlobs
        memoryBytes += other.memoryBytes
        socketBlobs += other.socketBlobs
        socketBytes += other.socketBytes
        fallbacks += other.fallbacks
    }
}
