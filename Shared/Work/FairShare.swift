import Wire

/// Compute time that each tenant has been given, so that those who wait share every stage evenly by what their tasks cost
/// and not by how many they submit (start-time fair queueing, Goyal et al. 1996, over the measured durations).
///
/// Volatile: after a restart of the broker all tenants begin even.
struct FairShare: Sendable {
    private var served: [String: Double] = [:]

    /// Tenants that are remembered; beyond it those that had least are forgotten, which only brings them forward.
    private static let limit = 10_000

    /// Milliseconds of work that the tenant was given.
    func served(_ tenant: String) -> Double { served[tenant] ?? 0 }

    /// A tenant without work submits some: time that it did not ask for is not saved up.
    /// - Parameter others: tenants that have unfinished jobs.
    mutating func enter(_ tenant: String, others: some Sequence<String>) {
        guard let least = others.map(served).min(), least > served(tenant) else { return }
        served[tenant] = least
    }

    /// Counts work, or takes back (negative) what was counted too much.
    mutating func charge(_ tenant: String, milliseconds: Double) {
        served[tenant] = max(0, served(tenant) + milliseconds)
        guard served.count > Self.limit, let least = served.min(by: { ($0.value, $0.key) < ($1.value, $1.key) })
        else { return }
        served[least.key] = nil
    }
}

extension BrokerState {
    /// What a task is taken to cost before anything like it has finished.
    static let unknownCostMilliseconds: UInt64 = 1000

    /// Expected time of a whole task; nil when nothing like it has finished yet.
    func expectedMilliseconds(_ task: TaskSpecification, _ id: TaskID) -> UInt64? {
        durations.expectedMilliseconds(costs[id] ?? TaskCost(task))
    }

    /// Counts a job of a tenant that had none.
    mutating func enterShare(_ tenant: String) {
        if index.tenants[tenant] == nil { share.enter(tenant, others: index.tenants.keys) }
    }

    /// Takes a lease's clock off the table and counts what it really cost.
    mutating func closeLease(_ id: TaskID, now: Instant) {
        guard let clock = leases.removeValue(forKey: id), let job = records.jobs[id.job] else { return }
        share.charge(job.key.tenant, milliseconds: Double(now.elapsed(since: clock.grantedAt)) - clock.charged)
    }
}
