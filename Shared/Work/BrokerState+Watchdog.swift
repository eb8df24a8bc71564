import Wire

// The watchdog: a worker may beat while its compute hangs.
extension BrokerState {
    mutating func checkProgress(
        _ running: RunningTask, lease: Lease, clock: LeaseClock, session: SessionID, now: Instant
    ) {
        guard readOnlyReason == nil else { return }
        let limit = stallLimit(running, clock: clock, session: session)
        guard UInt64(running.millisecondsSinceProgress) > limit else { return }
        send(.revoke(Revoke(lease: lease, reason: "stalled")), to: session)
        let message =
            "no progress for \(running.millisecondsSinceProgress / 1000) s at step \(running.step) of "
            + "\(running.totalSteps) (allowed: \(limit / 1000) s)"
        release(lease, reason: .stalled, code: "stalled", message: message, excludesWorker: true, now: now)
    }

    /// Milliseconds that may pass without progress: five of the longest step that this run has shown, else five of what
    /// such steps took before where the worker has its weights, and never less than the minimum. A worker that may still
    /// be loading weights, or about which nothing is known, has `stallMilliseconds`; storing the result has five minutes.
    private func stallLimit(_ running: RunningTask, clock: LeaseClock, session: SessionID) -> UInt64 {
        let minimum = configuration.minimumStallMilliseconds
        let measured = 5 * clock.longestStepMilliseconds
        if running.totalSteps > 0, running.step >= running.totalSteps {
            return max(minimum, measured, min(configuration.stallMilliseconds, 300_000))
        }
        if measured > 0 { return max(minimum, measured) }
        guard let cost = costs[running.task], workers[session]?.warm.contains(cost.workload) == true,
            let whole = durations.expectedMilliseconds(cost)
        else { return configuration.stallMilliseconds }
        return min(max(minimum, 5 * whole / UInt64(max(1, running.totalSteps))), configuration.stallMilliseconds)
    }
}

extension BrokerState.LeaseClock {
    /// Measures step times from the moments at which the worker says that progress was made.
    mutating func note(_ running: RunningTask, now: Instant) {
        guard running.step > step || (newestStep == nil && running.step > 0) else { return }
        let sinceProgress = UInt64(running.millisecondsSinceProgress)
        let at = now.milliseconds > sinceProgress ? now.milliseconds - sinceProgress : 0
        if let newest = newestStep, running.step > newest.step {
            let each = (at > newest.at ? at - newest.at : 0) / UInt64(running.step - newest.step)
            longestStepMilliseconds = max(longestStepMilliseconds, max(1, each))
        }
        if firstStep == nil { firstStep = (running.step, at) }
        newestStep = (running.step, at)
    }

    /// Mean time of this run's steps, once two moments are known.
    var stepMilliseconds: Double? {
        guard let firstStep, let newestStep, newestStep.step > firstStep.step, newestStep.at > firstStep.at else {
            return nil
        }
        return Double(newestStep.at - firstStep.at) / Double(newestStep.step - firstStep.step)
    }
}
