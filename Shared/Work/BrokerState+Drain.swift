import Wire

// Leases that are wanted back with their progress: preemption takes one, a drain all of a worker's.
extension BrokerState {
    /// Asks for a lease back at the next step. A stage that keeps checkpoints stores the state after the step it is at
    /// and returns the lease, which spends no attempt and waits for nothing; another stage goes on to its end. The order
    /// is repeated with every beat until the lease is over; asking twice changes nothing.
    ///
    /// - Parameter reason: for logs and notes: `preempted`.
    /// - Returns: false when no worker holds the lease.
    @discardableResult
    mutating func yield(_ id: TaskID, reason: String) -> Bool {
        guard let clock = leases[id], let task = records.jobs[id.job]?.task(id.name), task.state == .leased else {
            return false
        }
        guard clock.yieldReason == nil else { return true }
        leases[id]?.yieldReason = reason
        let lease = Lease(task: id, fence: task.fence)
        send(.revoke(Revoke(lease: lease, reason: reason, yields: true)), to: clock.session)
        return true
    }

    /// REFUSE `yielded`: the worker repeats it until LEASE_LOST answers.
    mutating func takeBack(_ lease: Lease, from session: SessionID, now: Instant) {
        guard readOnlyReason == nil else { return }
        send(.leaseLost(lease), to: session)
        guard isCurrent(lease, of: session) else { return }
        let reason = leases[lease.task]?.yieldReason ?? "drain"
        let step = records.task(of: lease)?.checkpointStep ?? 0
        release(
            lease, reason: .yielded, code: "yielded", message: "handed back after step \(step) (\(reason))",
            excludesWorker: false, now: now)
    }

    mutating func accept(_ drain: Drain, from session: SessionID, inReplyTo sequence: UInt64) {
        if drain.broker {
            isDraining = !drain.resume
            send(.draining(Draining(workers: [], broker: isDraining)), to: session, inReplyTo: sequence)
            return
        }
        let matching = workers.filter { matches($0.value.hello, drain) }.sorted { inOrder($0.key, $1.key) }
        guard !matching.isEmpty else {
            let wanted = drain.worker.isEmpty ? "of stage \(drain.stage)" : "called \(drain.worker)"
            sendError("worker_not_found", "no worker \(wanted) is connected", to: session, inReplyTo: sequence)
            return
        }
        for (session, _) in matching { workers[session]?.isDraining = true }
        touchWatched()
        let names = matching.prefix(Limits.workersPerCluster).map(\.value.hello.worker)
        send(.draining(Draining(workers: names, broker: isDraining)), to: session, inReplyTo: sequence)
    }

    /// A name matches with or without the CPUs that stand behind it in brackets.
    private func matches(_ hello: Hello, _ drain: Drain) -> Bool {
        if drain.worker.isEmpty {
            return !drain.stage.isEmpty && hello.capabilities.contains { $0.stage == drain.stage }
        }
        return hello.worker == drain.worker || hello.worker.hasPrefix("\(drain.worker) (")
    }
}
