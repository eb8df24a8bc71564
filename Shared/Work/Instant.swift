/// A reading of the caller's clocks. The state machines own no clock: every event comes with one of these.
package struct Instant: Sendable, Hashable {
    /// A monotonic clock that keeps running in suspend (CLOCK_BOOTTIME). Intervals, leases and backoff use only this one.
    package var milliseconds: UInt64
    /// Wall clock, for people (`created`, `finished`) and for retention; never compared between machines.
    package var unixMilliseconds: UInt64

    package init(milliseconds: UInt64, unixMilliseconds: UInt64 = 0) {
        self.milliseconds = milliseconds
        self.unixMilliseconds = unixMilliseconds
    }

    /// Milliseconds from `earlier` (a monotonic reading) to now; 0 when that lies in the future.
    func elapsed(since earlier: UInt64) -> UInt64 { milliseconds > earlier ? milliseconds - earlier : 0 }
}
