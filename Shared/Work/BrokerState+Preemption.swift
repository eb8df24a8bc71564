import Wire

// A more urgent job need not wait behind an hour of denoising: the lease of a less urgent one is wanted back at its next
// step, where its checkpoint keeps what was done.
extension BrokerState {
    /// Asks for leases back, one for every READY task of a higher priority that finds no free slot, where that pays.
    ///
    /// It pays when the victim would run for at least twice the time of the urgent task, and at least for
    /// `preemptionMilliseconds`. A task that keeps no checkpoints is never asked, nor one that has just begun, nor one
    /// that was already asked `preemptionLimit` times.
    mutating func preempt(_ now: Instant) {
        guard readOnlyReason == nil, !leases.isEmpty, !records.ready.isEmpty else { return }
        let free = freeSlots()
        let urgent = candidates(for: workers.filter { $0.value.isReachable && !$0.value.isDraining }.keys, now: now)
            .sorted { $0.goesBefore($1) }
        // Slots that are free or about to be, each good for one task.
        var coming = free
        for clock in leases.values where clock.yieldReason != nil { coming[clock.session, default: 0] += 1 }
        for candidate in urgent {
            guard let task = records.jobs[candidate.id.job]?.task(candidate.id.name) else { continue }
            let capable = workers.filter { $0.value.hello.serves(task.specification) }.keys.sorted(by: inOrder)
            if let session = capable.first(where: { coming[$0, default: 0] > 0 }) {
                coming[session, default: 0] -= 1
                continue
            }
            let cost = expectedMilliseconds(task.specification, candidate.id)
            guard let victim = victim(of: candidate.priority, cost: cost, on: Set(capable), now: now) else { continue }
            preemptions[victim, default: 0] += 1
            yield(victim, reason: "preempted")
        }
    }

    /// The least urgent lease that is worth taking back, of several the one with most work left.
    private func victim(of priority: Int32, cost: UInt64?, on sessions: Set<SessionID>, now: Instant) -> TaskID? {
        var best: (id: TaskID, priority: Int32, remaining: UInt64)?
        for (id, clock) in leases.sorted(by: { inOrder($0.key, $1.key) }) {
            guard sessions.contains(clock.session), clock.yieldReason == nil, let job = records.jobs[id.job],
                job.priority < priority, let task = job.task(id.name), task.checkpoint != nil,
                preemptions[id, default: 0] < configuration.preemptionLimit,
                now.elapsed(since: clock.grantedAt) >= configuration.preemptionMilliseconds,
                let remaining = remainingMilliseconds(of: task, id: id, clock: clock, now: now),
                remaining >= max(configuration.preemptionMilliseconds, 2 * (cost ?? 0))
            else { continue }
            if let best, (best.priority, remaining) >= (job.priority, best.remaining) { continue }
            best = (id, job.priority, remaining)
        }
        return best?.id
    }
}
