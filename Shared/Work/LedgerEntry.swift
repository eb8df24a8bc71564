package import Wire

/// One committed fact. The journal is a sequence of these, and `Records` is their fold: the broker's durable state is
/// nothing but what its entries say, so a restarted broker and a running one agree by construction.
package enum LedgerEntry: Sendable, Hashable, Codable {
    case jobAccepted(JobAcceptance)
    /// Fence and attempt of a lease; on disk before its ASSIGN leaves.
    case leaseGranted(LeaseGrant)
    case checkpointCommitted(CheckpointCommit)
    case taskCompleted(TaskCompletion)
    /// The lease is over without a result; the task is READY again.
    case leaseEnded(LeaseEnd)
    /// Outputs that somebody still needs are gone: their producers must run again.
    case outputsLost(OutputLoss)
    /// FAILED, DEAD or CANCELLED (DONE follows from the last `taskCompleted`).
    case jobEnded(JobEnd)
    /// Retention is over: nothing of the job stays.
    case jobForgotten(job: String)
    /// The machine was started again: the deadline by its new clocks.
    case deadlineMoved(DeadlineMove)

    /// A short stable name for the journal's `kind` column.
    package var kind: String {
        switch self {
        case .jobAccepted: "job_accepted"
        case .leaseGranted: "lease_granted"
        case .checkpointCommitted: "checkpoint_committed"
        case .taskCompleted: "task_completed"
        case .leaseEnded: "lease_ended"
        case .outputsLost: "outputs_lost"
        case .jobEnded: "job_ended"
        case .jobForgotten: "job_forgotten"
        case .deadlineMoved: "deadline_moved"
        }
    }

    package var job: String {
        switch self {
        case .jobAccepted(let entry): entry.job
        case .leaseGranted(let entry): entry.lease.task.job
        case .checkpointCommitted(let entry): entry.lease.task.job
        case .taskCompleted(let entry): entry.lease.task.job
        case .leaseEnded(let entry): entry.lease.task.job
        case .outputsLost(let entry): entry.job
        case .jobEnded(let entry): entry.job
        case .jobForgotten(let job): job
        case .deadlineMoved(let entry): entry.job
        }
    }
}

/// Whose request it was, so that a repeated one can be recognised. Keys are unique inside a tenant.
package struct SubmissionKey: Sendable, Hashable, Codable {
    package var tenant: String
    package var key: String

    package init(tenant: String, key: String) {
        self.tenant = tenant
        self.key = key
    }
}

package struct JobAcceptance: Sendable, Hashable, Codable {
    package var job: String
    /// An empty `key.key` means the client gave none; such a submission is always a new job.
    package var key: SubmissionKey
    package var requestDigest: Digest
    package var priority: Int32
    package var specification: String
    package var tasks: [TaskSpecification]
    package var unixMilliseconds: UInt64
    /// The job that this one retries, and what that one had done.
    package var retryOf: String?
    package var carried: [CarriedTask]?
    /// Nil = no matter when.
    package var deadline: Deadline?

    package init(
        job: String, key: SubmissionKey, requestDigest: Digest, priority: Int32, specification: String,
        tasks: [TaskSpecification], unixMilliseconds: UInt64
    ) {
        self.job = job
        self.key = key
        self.requestDigest = requestDigest
        self.priority = priority
        self.specification = specification
        self.tasks = tasks
        self.unixMilliseconds = unixMilliseconds
    }
}

package struct LeaseGrant: Sendable, Hashable, Codable {
    package var lease: Lease
    package var worker: String
    package var session: SessionID
    /// The worker's arithmetic; a checkpoint made by another one resumes, but not bit-identically.
    package var numerics: String
    package var unixMilliseconds: UInt64

    package init(lease: Lease, worker: String, session: SessionID, numerics: String, unixMilliseconds: UInt64) {
        self.lease = lease
        self.worker = worker
        self.session = session
        self.numerics = numerics
        self.unixMilliseconds = unixMilliseconds
    }
}

package struct CheckpointCommit: Sendable, Hashable, Codable {
    package var lease: Lease
    package var step: UInt32
    package var ref: TensorRef

    package init(lease: Lease, step: UInt32, ref: TensorRef) {
        self.lease = lease
        self.step = step
        self.ref = ref
    }
}

package struct TaskCompletion: Sendable, Hashable, Codable {
    package var lease: Lease
    package var outputs: [NamedRef]
    package var elapsedMilliseconds: UInt64
    package var notes: [String]
    package var unixMilliseconds: UInt64
    /// `Complete.manner`; nil where that was empty, and in ledgers of earlier releases.
    package var manner: String?

    package init(
        lease: Lease, outputs: [NamedRef], elapsedMilliseconds: UInt64, notes: [String], unixMilliseconds: UInt64,
        manner: String? = nil
    ) {
        self.manner = manner
        self.lease = lease
        self.outputs = outputs
        self.elapsedMilliseconds = elapsedMilliseconds
        self.notes = notes
        self.unixMilliseconds = unixMilliseconds
    }
}

package struct LeaseEnd: Sendable, Hashable, Codable {
    /// Why, and with it what is counted: `expired` is a crash; `failed` and `stalled` are failures; `dropped` (the
    /// worker stopped listing the task) keeps the attempt; the rest gives the attempt back, because deploys, preemption
    /// and lost messages must not use up a healthy job's attempts.
    package enum Reason: String, Sendable, Hashable, Codable, CaseIterable {
        case expired, failed, stalled, dropped, refused, assignLost, goodbye, yielded

        package var givesAttemptBack: Bool {
            switch self {
            case .refused, .assignLost, .goodbye, .yielded: true
            case .expired, .failed, .stalled, .dropped: false
            }
        }
    }

    package var lease: Lease
    package var reason: Reason
    /// Error code and text for `failed`, otherwise what the broker saw.
    package var code: String
    package var message: String
    /// Whether another worker should take the task where one exists.
    package var excludesWorker: Bool
    /// Nil in ledgers of earlier releases.
    package var evidence: LeaseEvidence?

    package init(
        lease: Lease, reason: Reason, code: String, message: String, excludesWorker: Bool,
        evidence: LeaseEvidence? = nil
    ) {
        self.evidence = evidence
        self.lease = lease
        self.reason = reason
        self.code = code
        self.message = message
        self.excludesWorker = excludesWorker
    }
}

package struct OutputLoss: Sendable, Hashable, Codable {
    package var job: String
    /// DONE tasks whose outputs no location serves any more.
    package var producers: [String]
    /// The lease that found out; it ends without counting as the consumer's failure.
    package var consumer: Lease?

    package init(job: String, producers: [String], consumer: Lease?) {
        self.job = job
        self.producers = producers
        self.consumer = consumer
    }
}

package struct JobEnd: Sendable, Hashable, Codable {
    package var job: String
    package var state: JobState
    /// The task that ended the job, if one did.
    package var task: String?
    package var code: String
    package var message: String
    package var unixMilliseconds: UInt64
    /// The end of the lease that ended the job, where no `leaseEnded` came before.
    package var evidence: LeaseEvidence?

    package init(
        job: String, state: JobState, task: String?, code: String, message: String, unixMilliseconds: UInt64,
        evidence: LeaseEvidence? = nil
    ) {
        self.evidence = evidence
        self.job = job
        self.state = state
        self.task = task
        self.code = code
        self.message = message
        self.unixMilliseconds = unixMilliseconds
    }
}
