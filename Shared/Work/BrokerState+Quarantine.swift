import Wire

// A task that took two different workers down runs once more, where it can take nobody else's work with it.
extension BrokerState {
    /// Sessions that run a quarantined task: they get nothing beside it.
    func isolatedSessions() -> Set<SessionID> {
        var sessions: Set<SessionID> = []
        for (id, clock) in leases where records.jobs[id.job]?.task(id.name)?.isQuarantined == true {
            sessions.insert(clock.session)
        }
        return sessions
    }

    /// An idle worker may take a quarantined task when no other such task of its stage runs: a stage never loses more
    /// than one worker at a time to them.
    func mayIsolate(
        _ task: TaskRecord, on session: SessionID, _ worker: Worker, free: [SessionID: Int]
    ) -> Bool {
        guard free[session] == Int(worker.hello.slots) else { return false }
        return !leases.keys.contains { id in
            guard let other = records.jobs[id.job]?.task(id.name) else { return false }
            return other.isQuarantined && other.specification.stage == task.specification.stage
        }
    }
}
