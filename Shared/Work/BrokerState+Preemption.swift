import Wire

// A more urgent job need not wait behind an hour of denoising: the lease of a less urgent one is wanted back at its next
// step, where its checkpoint keeps what was done.
extension BrokerState {
    /// Tasks of one tenant, stage and priority that look for room at once.
    private static let urgentPerQueue = 16

    /// Asks for leases back, one for every READY task of a higher priority that finds no free slot, where that pays.
    ///
    /// It pays when the victim would run for at least twice the time of the urgent task, and at least for
    /// `preemptionMilliseconds`. A task that keeps no checkpoints is never asked, nor one that has just begun, nor one
    /// that was already asked `preemptionLimit` times.
    mutating func preempt(_ now: Instant) {
        guard readOnlyReason == nil, !leases.isEmpty else { return }
        let urgent = urgentCandidates(now)
        guard !urgent.isEmpty else { return }
        // Slots that are free or about to be, each good for one task.
        var coming = freeSlots()
        for clock in leases.values where clock.yieldReason != nil { coming[clock.session, default: 0] += 1 }
        var slots = SlotMatching(coming)
        for (id, task, priority) in urgent {
            let capable = workers.filter { $0.value.hello.serves(task.specification) }.keys.sorted(by: inOrder)
            if slots.place(among: capable) { continue }
            let cost = expectedMilliseconds(task.specification, id)
            guard let victim = victim(of: priority, cost: cost, on: Set(capable), now: now) else { continue }
            preemptions[victim, default: 0] += 1
            yield(victim, reason: "preempted")
        }
    }

    /// READY tasks that are more urgent than something that runs, in order; of each tenant and stage the first few.
    private func urgentCandidates(_ now: Instant) -> [(id: TaskID, task: TaskRecord, priority: Int32)] {
        guard let lowest = leases.keys.compactMap({ records.jobs[$0.job]?.priority }).min() else { return [] }
        let capabilities = Set(
            workers.values.filter { $0.isReachable && !$0.isDraining }.flatMap(\.hello.capabilities))
        var found: [(id: TaskID, task: TaskRecord, priority: Int32)] = []
        for priority in index.readyPriorities where priority > lowest {
            let lanes = index.ready(priority).filter { lane, _ in
                capabilities.contains { $0.serves(stage: lane.stage, model: lane.model) }
            }
            let first = lanes.values.flatMap { $0.values.flatMap { $0.prefix(Self.urgentPerQueue) } }
            for candidate in first.sorted(by: { $0.goesBefore($1) }) {
                guard let task = records.jobs[candidate.job]?.tasks[candidate.position] else { continue }
                let id = TaskID(job: candidate.job, name: task.specification.name)
                if notBefore[id, default: 0] <= now.milliseconds { found.append((id, task, priority)) }
            }
        }
        return found
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
