// How many jobs are taken, and when to come again.
extension BrokerState {
    /// Why this tenant may not submit another job now, or nil.
    func quotaProblem(of tenant: String) -> String? {
        let count = records.unfinished.count { records.jobs[$0]?.key.tenant == tenant }
        guard count >= configuration.tenantJobLimit else { return nil }
        return "\(count) jobs of this tenant are waiting or running, which is as many as it may have"
    }

    /// When there is likely to be room for one more: the time until the next job ends, of this tenant or of any.
    /// Ten seconds while nothing is known.
    mutating func roomMilliseconds(for tenant: String?, now: Instant) -> UInt32 {
        prepareForecast(now)
        let soonest = records.unfinished.compactMap { id -> UInt64? in
            guard let job = records.jobs[id], tenant == nil || job.key.tenant == tenant else { return nil }
            return forecast?.remaining[id]
        }.min()
        return UInt32(clamping: min(max(soonest ?? 10_000, 1000), 600_000))
    }
}
