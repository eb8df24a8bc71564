/// When nobody wants a job's result any more, on each clock that may be there when the broker starts again.
///
/// A running broker asks its monotonic clock alone. Wall clocks are set by people and by the network, and a ledger outlives
/// the machine: so it holds both, and the name of the machine's run in which the monotonic one counts.
package struct Deadline: Sendable, Hashable, Codable {
    /// From acceptance on, as it was asked for.
    package var milliseconds: UInt64
    /// Reading of `Instant.milliseconds` at which it passes, while the machine's run is `boot`.
    package var bootMilliseconds: UInt64
    package var boot: String
    /// The same moment by wall clock.
    package var unixMilliseconds: UInt64

    /// - Parameters:
    ///   - milliseconds: above 0.
    ///   - boot: `BrokerConfiguration.boot`.
    package init(after milliseconds: UInt64, now: Instant, boot: String) {
        self.milliseconds = milliseconds
        self.boot = boot
        bootMilliseconds = now.milliseconds + milliseconds
        unixMilliseconds = now.unixMilliseconds + milliseconds
    }

    /// Milliseconds that a broker which starts now leaves the job; 0 when the deadline has passed.
    ///
    /// In the same run of the machine that is certain, whatever happened to the wall clock. In another run only the wall
    /// clock is left, which may have been set meanwhile, so it neither ends a job at once nor gives it more than it
    /// asked for: at least `grace` remains (or all of a shorter deadline).
    package func left(now: Instant, boot: String, grace: UInt64) -> UInt64 {
        if boot == self.boot {
            return bootMilliseconds > now.milliseconds ? bootMilliseconds - now.milliseconds : 0
        }
        let left = unixMilliseconds > now.unixMilliseconds ? unixMilliseconds - now.unixMilliseconds : 0
        return min(max(left, grace), milliseconds)
    }

    /// The deadline on the clocks of this run of the machine.
    /// - Parameter left: milliseconds until it passes.
    func moved(to now: Instant, left: UInt64, boot: String) -> Deadline {
        var moved = Deadline(after: left, now: now, boot: boot)
        moved.milliseconds = milliseconds
        return moved
    }
}

/// A deadline read on the clocks of another run of the machine.
package struct DeadlineMove: Sendable, Hashable, Codable {
    package var job: String
    package var deadline: Deadline

    package init(job: String, deadline: Deadline) {
        self.job = job
        self.deadline = deadline
    }
}
