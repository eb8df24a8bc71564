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
    /// - Parameter least: the least that a tenant with unfinished jobs was given; nil when there is none.
    mutating func enter(_ tenant: String, least: Double?) {
        guard let least, least > served(tenant) else { return }
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

    /// Counts a job of a tenant that had none. It begins where those who wait stand by the time that they really had: what
    /// running tasks are only expected to take would stay with the newcomer when they take less.
    mutating func enterShare(_ tenant: String, now: Instant) {
        guard index.tenants[tenant] == nil else { return }
        var expected: [String: Double] = [:]
        for (id, clock) in leases {
            guard let owner = records.jobs[id.job]?.key.tenant else { continue }
            expected[owner, default: 0] += max(0, clock.charged - Double(now.elapsed(since: clock.grantedAt)))
        }
        share.enter(tenant, least: index.tenants.keys.map { share.served($0) - expected[$0, default: 0] }.min())
    }

    /// Takes a lease's clock off the table and counts what it really cost.
    mutating func closeLease(_ id: TaskID, now: Instant) {
        guard let clock = leases.removeValue(forKey: id), let job = records.jobs[id.job] else { return }
        share.charge(job.key.tenant, milliseconds: Double(now.elapsed(since: clock.grantedAt)) - clock.charged)
    }
}
