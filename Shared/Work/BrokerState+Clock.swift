import Wire

// What the clock brings about.
extension BrokerState {
    mutating func tick(_ now: Instant) {
        forgiveAbsence(now)
        if readOnlyReason == nil {
            expireLeases(now)
            moveDeadlines(now)
            endLateJobs(now)
            assessDeadlines(now)
            forgetOldJobs(now)
        }
        dismissSilentWorkers(now)
        if !previewWatchers.isEmpty { forgetPreviewWatchers(now) }
        // Last, when it is known what is ready: outputs may have gone with a silent worker, and free slots come first.
        dispatch(now)
        preempt(now)
        let due = orphans.filter { $0.value <= now.milliseconds }
        for (digest, _) in due.sorted(by: { inOrder($0, $1) }) {
            orphans[digest] = nil
            if !records.refers(to: digest) { step.removals.append(digest) }
        }
    }

    /// A broker that was away itself (a suspended host, a disk that took its time) has heard nobody meanwhile: that time
    /// counts against no worker. What they sent is still to come.
    private mutating func forgiveAbsence(_ now: Instant) {
        let gap = now.elapsed(since: lastTickAt)
        lastTickAt = now.milliseconds
        guard gap > configuration.leaseMilliseconds / 3 else { return }
        for id in leases.keys {
            guard let clock = leases[id] else { continue }
            leases[id]?.expiresAt = min(clock.expiresAt + gap, now.milliseconds + configuration.leaseMilliseconds)
            leases[id]?.grantedAt = min(clock.grantedAt + gap, now.milliseconds)
        }
        for session in workers.keys {
            guard let worker = workers[session] else { continue }
            workers[session]?.lastHeardAt = min(worker.lastHeardAt + gap, now.milliseconds)
        }
    }

    private mutating func forgetOldJobs(_ now: Instant) {
        guard now.milliseconds >= nextRetentionAt else { return }
        nextRetentionAt = now.milliseconds + min(60_000, max(1000, configuration.retentionMilliseconds / 10))
        for id in records.order {
            guard let job = records.jobs[id], job.state.isTerminal,
                job.finishedUnixMilliseconds + configuration.retentionMilliseconds <= now.unixMilliseconds
            else { continue }
            commit(.jobForgotten(job: id), now: now)
            changed.remove(id)
            revisions[id] = nil
            lastPushAt[id] = nil
            watchers[id] = nil
        }
    }
}

private func inOrder(_ left: (key: Digest, value: UInt64), _ right: (key: Digest, value: UInt64)) -> Bool {
    left.value != right.value ? left.value < right.value : left.key < right.key
}
