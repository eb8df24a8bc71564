import Synchronization

/// How far a task is, written by the computing thread and read by the beat; and the order to stop, the other way.
package final class TaskProgress: Sendable {
    private struct State {
        var step = 0
        var total = 0
        var changed = ContinuousClock.now
        var cancellation: String?
        var yieldReason: String?
        var watchedUntil: ContinuousClock.Instant?
    }

    private let state = Mutex(State())
    private let lastStep: Int?

    /// - Parameter lastStep: the step after which the computation is asked to stop by itself; nil lets it end.
    package init(stoppingAfter lastStep: Int? = nil) { self.lastStep = lastStep }

    /// Units of the stage's own work done and in all (denoising steps, chunks, frames).
    package func report(step: Int, of total: Int) {
        state.withLock {
            $0.step = step
            $0.total = total
            $0.changed = .now
        }
        if let lastStep, step >= lastStep { cancel("step \(lastStep) was to be the last") }
    }

    package var step: Int { state.withLock { $0.step } }
    package var total: Int { state.withLock { $0.total } }

    /// Time since the last report, which the broker's watchdog judges.
    package var sinceProgress: Duration { state.withLock { $0.changed.duration(to: .now) } }

    /// Somebody looks at the task's previews, for `duration` from now.
    package func watch(for duration: Duration) { state.withLock { $0.watchedUntil = .now + duration } }

    /// Whether somebody looks at the task's previews. Asked once a step: it is a lock and a comparison.
    package var isWatched: Bool { state.withLock { state in state.watchedUntil.map { $0 > .now } ?? false } }

    /// Asks the computation to stop at its next step; the first reason stays.
    package func cancel(_ reason: String) {
        state.withLock { if $0.cancellation == nil { $0.cancellation = reason } }
    }

    /// Why the computation must stop, or nil.
    package var cancellation: String? { state.withLock { $0.cancellation } }

    /// Asks the computation to store its state after the present step and to stop there, if it can.
    package func yield(_ reason: String) {
        state.withLock { if $0.yieldReason == nil { $0.yieldReason = reason } }
    }

    /// Why the computation should stop at a step that it can be continued from, or nil.
    package var yieldReason: String? { state.withLock { $0.yieldReason } }
}
