import Wire

extension WorkerState {
    /// What the worker owes the broker or the stage for one lease.
    struct Held: Sendable {
        enum Work: Sendable {
            /// The stage computes.
            case computing
            /// The stage helps with a task that is leased to another worker; the broker hears of the slot only.
            case assisting
            /// The stage takes another worker's results as they come: no slot, and the broker hears nothing of it.
            case following
            /// The stage was asked to hand back at its next step; whatever it does instead counts as well.
            case yielding(String)
            /// Handed back, not yet answered. Said only once the last checkpoint is confirmed.
            case yielded
            /// Cancelled; the stage has not yet let go of the slot.
            case stopping
            /// Done, not yet COMMITTED.
            case completed(Complete)
            /// Failed, not yet answered.
            case failed(Fail)
        }

        var work: Work
        var step: UInt32
        var totalSteps: UInt32 = 0
        /// When the step last changed.
        var progressAt: UInt64
        /// The newest checkpoint the broker has not confirmed.
        var checkpoint: CheckpointReport?

        var occupiesSlot: Bool {
            switch work {
            case .computing, .assisting, .yielding, .stopping: true
            case .following, .yielded, .completed, .failed: false
            }
        }

        /// Whether the stage has yet to let go.
        var isRunning: Bool {
            if case .following = work { return true }
            return occupiesSlot
        }

        var isStopping: Bool {
            if case .stopping = work { return true }
            return false
        }

        /// Whether it is another worker's task.
        var isAssistance: Bool {
            switch work {
            case .assisting, .following: true
            default: false
            }
        }
    }
}
