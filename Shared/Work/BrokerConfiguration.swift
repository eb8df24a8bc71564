package import Wire

/// The broker's intervals, limits and addresses. Durations are milliseconds.
package struct BrokerConfiguration: Sendable {
    /// Rises with every start of the broker on the same ledger.
    package var epoch: UInt64
    /// This broker's name among several, in WELCOME and in every status.
    package var cell = ""
    package var beatMilliseconds: UInt64 = 1000
    /// A worker that is not heard for this long loses its tasks.
    package var leaseMilliseconds: UInt64 = 15_000
    /// How long finished jobs and their outputs stay.
    package var retentionMilliseconds: UInt64 = 168 * 3_600_000
    /// Where workers store durable outputs and checkpoints.
    package var storeLocations: [Location] = []
    /// Leases a task may use up; guards against endless churn.
    package var attemptLimit: UInt32 = 50
    /// The poison rule: a task that loses this many workers is DEAD.
    package var crashLimit: UInt32 = 3
    /// The retryable failure with this number ends the job.
    package var failureLimit: UInt32 = 3
    /// A task without any progress for this long is taken away while its step time is not known yet (weights load,
    /// kernels warm up, and a first step of a large model on a CPU takes minutes).
    package var stallMilliseconds: UInt64 = 30 * 60_000
    /// The watchdog is never stricter than this.
    package var minimumStallMilliseconds: UInt64 = 30_000
    /// First retry delay; doubles with every failure up to `maximumBackoffMilliseconds`.
    package var backoffMilliseconds: UInt64 = 500
    package var maximumBackoffMilliseconds: UInt64 = 30_000
    /// Step progress is pushed to watchers at most this often per job.
    package var eventMilliseconds: UInt64 = 100
    /// An unreferenced blob of the store is removed after this long: a worker may be about to refer to it.
    package var orphanMilliseconds: UInt64 = 60_000
    /// The same for unreferenced blobs that a starting broker finds: workers must have come back by then.
    package var leftoverMilliseconds: UInt64 = 3_600_000
    /// Tasks that may wait at a stage for each of its slots before the stage in front begins no more.
    package var backlogPerSlot = 4
    /// What a task must have run, and have left to run, before it makes room for a more urgent one.
    package var preemptionMilliseconds: UInt64 = 5000
    /// How often a task may be asked to.
    package var preemptionLimit = 3
    /// Names the machine's run, in which `Instant.milliseconds` does not go back (Linux' boot id).
    package var boot = ""
    /// What a deadline leaves a job at least when the machine was started again and only the wall clock tells the time.
    package var deadlineGraceMilliseconds: UInt64 = 600_000
    /// Unfinished jobs of one tenant beyond this are refused with `quota`.
    package var tenantJobLimit = 1000
    /// Unfinished jobs beyond this are refused with `overloaded`.
    package var unfinishedJobLimit = 10_000

    /// An assignment that no beat has listed for this long was lost: two beats, and the delay of a loaded machine or a
    /// slow disk on either side.
    package var lostAssignmentMilliseconds: UInt64 { 2 * beatMilliseconds + leaseMilliseconds / 3 }

    package init(epoch: UInt64) { self.epoch = epoch }
}
