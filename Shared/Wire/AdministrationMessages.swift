/// Client → broker: whom to empty. Exactly one of `worker`, `stage` and `broker` is meant.
package struct Drain: Sendable, Hashable {
    /// A worker by its name.
    package var worker: String
    /// Every worker of this stage.
    package var stage: String
    /// The broker itself: it refuses SUBMIT with `draining` and goes on with everything else.
    package var broker: Bool
    /// With `broker`: take jobs again.
    package var resume: Bool

    package init(worker: String = "", stage: String = "", broker: Bool = false, resume: Bool = false) {
        self.worker = worker
        self.stage = stage
        self.broker = broker
        self.resume = resume
    }
}

/// Broker → client: who drains now because of the DRAIN that this answers, and whether the broker does.
package struct Draining: Sendable, Hashable {
    package var workers: [String]
    package var broker: Bool

    package init(workers: [String], broker: Bool) {
        self.workers = workers
        self.broker = broker
    }
}

/// Client → broker: one dead job with its evidence, or with an empty `job` a page of them, newest first, older than
/// `before`.
package struct DeadQuery: Sendable, Hashable {
    package var job: String
    package var before: String
    package var limit: UInt32
    /// Only jobs accepted before this; 0 = any.
    package var beforeUnixMilliseconds: UInt64

    package init(job: String, before: String = "", limit: UInt32 = 16, beforeUnixMilliseconds: UInt64 = 0) {
        self.job = job
        self.before = before
        self.limit = limit
        self.beforeUnixMilliseconds = beforeUnixMilliseconds
    }
}

/// How one lease of a task ended without a result: what there is to find out why a job died.
package struct Incident: Sendable, Hashable {
    package var task: String
    /// `expired`, `failed`, `stalled` or `dropped`.
    package var kind: String
    package var code: String
    package var message: String
    package var worker: String
    /// The worker's arithmetic.
    package var numerics: String
    /// How the worker's process ended, where its supervisor told (`signal 9`, `status 70`).
    package var processEnd: String
    /// Step that the worker had reported last.
    package var step: UInt32
    package var fence: UInt64
    package var grantedUnixMilliseconds: UInt64
    package var endedUnixMilliseconds: UInt64
    /// Whether it ran alone on its worker, because it had crashed two others.
    package var isQuarantined: Bool

    package init(
        task: String, kind: String, code: String, message: String, worker: String, numerics: String,
        processEnd: String, step: UInt32, fence: UInt64, grantedUnixMilliseconds: UInt64,
        endedUnixMilliseconds: UInt64, isQuarantined: Bool
    ) {
        self.task = task
        self.kind = kind
        self.code = code
        self.message = message
        self.worker = worker
        self.numerics = numerics
        self.processEnd = processEnd
        self.step = step
        self.fence = fence
        self.grantedUnixMilliseconds = grantedUnixMilliseconds
        self.endedUnixMilliseconds = endedUnixMilliseconds
        self.isQuarantined = isQuarantined
    }
}

/// A job that ended FAILED or DEAD.
package struct DeadJob: Sendable, Hashable {
    package var job: String
    package var state: JobState
    package var finishedUnixMilliseconds: UInt64
    package var errorCode: String
    package var errorMessage: String
    /// Name of the task that ended the job, or empty; the counters and the checkpoint are its own.
    package var task: String
    package var stage: String
    package var attempts: UInt32
    package var crashes: UInt32
    package var failures: UInt32
    /// Step of the checkpoint that a retry would go on from; 0 = none.
    package var checkpointStep: UInt32
    /// The newest job that retries this one, or empty.
    package var retriedAs: String
    /// Of every task, in the order in which they happened; empty in a page of several jobs.
    package var incidents: [Incident]
    /// Name of the broker that has the job.
    package var cell: String
    package var createdUnixMilliseconds: UInt64

    package init(
        job: String, state: JobState, finishedUnixMilliseconds: UInt64, errorCode: String, errorMessage: String,
        task: String = "", stage: String = "", attempts: UInt32 = 0, crashes: UInt32 = 0, failures: UInt32 = 0,
        checkpointStep: UInt32 = 0, retriedAs: String = "", incidents: [Incident] = [], cell: String = "",
        createdUnixMilliseconds: UInt64 = 0
    ) {
        self.cell = cell
        self.createdUnixMilliseconds = createdUnixMilliseconds
        self.job = job
        self.state = state
        self.finishedUnixMilliseconds = finishedUnixMilliseconds
        self.errorCode = errorCode
        self.errorMessage = errorMessage
        self.task = task
        self.stage = stage
        self.attempts = attempts
        self.crashes = crashes
        self.failures = failures
        self.checkpointStep = checkpointStep
        self.retriedAs = retriedAs
        self.incidents = incidents
    }
}

/// Broker → client: dead jobs (one with its evidence for DEAD_QUERY with an id, a page without otherwise).
package struct DeadPage: Sendable, Hashable {
    package var jobs: [DeadJob]
    package var hasMore: Bool

    package init(jobs: [DeadJob], hasMore: Bool) {
        self.jobs = jobs
        self.hasMore = hasMore
    }
}

/// Client → broker: make a new job of a dead one that keeps what was done, durable outputs and the last checkpoint.
package struct DeadRetry: Sendable, Hashable {
    package var job: String
    /// The same key never makes a second retry; may be empty.
    package var idempotencyKey: String

    package init(job: String, idempotencyKey: String = "") {
        self.job = job
        self.idempotencyKey = idempotencyKey
    }
}
