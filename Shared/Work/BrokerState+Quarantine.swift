import Wire

// A task that took two different workers down runs once more, where it can take nobody else's work with it.
extension BrokerState {
    /// Sessions that run a quarantined task: they get nothing beside it.
    func isolatedSessions() -> Set<SessionID> {
        var sessions: Set<SessionID> = []
        for clock in leases.values where clock.isQuarantined { sessions.insert(clock.session) }
        return sessions
    }

    /// The worker that is nearest to being idle is kept free for a quarantined task that finds none idle: workers with
    /// several slots would otherwise never be. Nothing is kept while another such task of the stage runs.
    func reservation(for task: TaskRecord) -> SessionID? {
        guard mayRunQuarantined(task.specification.stage) else { return nil }
        var leased: [SessionID: Int] = [:]
        for clock in leases.values { leased[clock.session, default: 0] += 1 }
        let capable = workers.filter {
            $0.value.isReachable && !$0.value.isDraining && $0.value.hello.serves(task.specification)
        }
        let preferred = capable.filter { !task.excludedWorkers.contains($0.value.hello.worker) }
        return (preferred.isEmpty ? capable : preferred).keys
            .min { (leased[$0, default: 0], $0) < (leased[$1, default: 0], $1) }
    }

    /// Whether no quarantined task of the stage runs.
    private func mayRunQuarantined(_ stage: String) -> Bool {
        !leases.contains { id, clock in
            clock.isQuarantined && records.jobs[id.job]?.task(id.name)?.specification.stage == stage
        }
    }

    /// An idle worker may take a quarantined task when no other such task of its stage runs: a stage never loses more
    /// than one worker at a time to them.
    func mayIsolate(
        _ task: TaskRecord, on session: SessionID, _ worker: Worker, free: [SessionID: Int]
    ) -> Bool {
        free[session] == Int(worker.hello.slots) && mayRunQuarantined(task.specification.stage)
    }
}
