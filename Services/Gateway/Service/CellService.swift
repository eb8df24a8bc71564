package import Failure
package import Wire

/// One broker behind the bus, as a gateway of several needs it.
package protocol CellService: JobService {
    /// The broker's name, as it said when it was met; connects first.
    func cell() async throws(Failure) -> String
    /// Whether there is a connection at this moment.
    var isConnected: Bool { get async }
    /// The cluster as it is now, asked with little patience: whether the broker is alive, and how busy.
    func check() async throws(Failure) -> ClusterStatus
    /// Where the broker's store is.
    func storeLocations() async throws(Failure) -> [Location]
    /// As `list`, and only jobs accepted before a time in Unix milliseconds (0: any).
    func list(before: String, acceptedBefore: UInt64, limit: Int) async throws(Failure) -> StatusPage
}

/// One cell as `/healthz`, `/metrics` and `/v1/workers` show it.
package struct CellReport: Sendable {
    /// Empty when it was never met and the operator gave it none.
    package var name: String
    /// What the broker says; nil when it does not answer.
    package var cluster: ClusterStatus?
    package var problem: Failure?

    package init(name: String, cluster: ClusterStatus? = nil, problem: Failure? = nil) {
        self.name = name
        self.cluster = cluster
        self.problem = problem
    }
}

extension JobService {
    package func absentCells() async -> [String] { [] }

    /// Every cell; a service of one broker is one.
    package func cells() async -> [CellReport] {
        do throws(Failure) {
            let cluster = try await cluster()
            return [CellReport(name: cluster.cell, cluster: cluster)]
        } catch {
            return [CellReport(name: "", problem: error)]
        }
    }

    /// As `drain`, for the cell called `cell` only; nil means all. Errors: `cell_unknown`.
    package func drain(_ drain: Drain, cell: String?) async throws(Failure) -> Draining {
        if let cell {
            let own = try await cluster().cell
            guard own == cell else { throw Failure.cellUnknown(cell, among: [own]) }
        }
        return try await self.drain(drain)
    }
}

extension Failure {
    static func cellUnknown(_ name: String, among known: [String]) -> Failure {
        Failure(
            "cell_unknown", "there is no cell \"\(name.prefix(40))\"", field: "cell",
            remedy: "Known: \(known.filter { !$0.isEmpty }.joined(separator: ", ")).")
    }
}

extension ClusterStatus {
    var unfinishedJobs: UInt64 { UInt64(queuedJobs) + UInt64(runningJobs) }

    /// Whether a worker for every one of these tasks is connected.
    func serves(_ tasks: [TaskSpecification]) -> Bool {
        tasks.allSatisfy { task in
            workers.contains { worker in
                worker.capabilities.contains {
                    $0.stage == task.stage && (task.model.isEmpty || $0.model == task.model)
                }
            }
        }
    }
}
