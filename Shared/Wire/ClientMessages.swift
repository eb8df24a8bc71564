/// Where one named input of a task comes from.
package enum InputSource: Sendable, Hashable {
    /// The output `output` of the job's task `task`.
    case task(name: String, output: String)
    /// A blob the client stored before it submitted.
    case blob(TensorRef)
}

package struct TaskInput: Sendable, Hashable {
    package var name: String
    package var source: InputSource

    package init(name: String, source: InputSource) {
        self.name = name
        self.source = source
    }
}

/// One task of a job's graph. The broker reads names and stages; `parameters` is between the client and the stage.
package struct TaskSpecification: Sendable, Hashable {
    package var name: String
    package var stage: String
    /// Model digest a worker must have, or empty.
    package var model: String
    /// UTF-8 JSON.
    package var parameters: String
    package var inputs: [TaskInput]
    /// Whether outputs are stored durably (embeddings, latents, files) or live in the producer's memory (frames).
    package var durableOutputs: Bool
    /// What a worker should have ready, in words of the stage's own; one whose beats name it goes first. Empty = any.
    package var affinity: String

    package init(
        name: String, stage: String, model: String, parameters: String, inputs: [TaskInput], durableOutputs: Bool,
        affinity: String = ""
    ) {
        self.affinity = affinity
        self.name = name
        self.stage = stage
        self.model = model
        self.parameters = parameters
        self.inputs = inputs
        self.durableOutputs = durableOutputs
    }
}

/// Client → broker: a new job. The same key with the same request digest replays the first answer.
package struct Submit: Sendable, Hashable {
    package var idempotencyKey: String
    package var requestDigest: Digest
    package var tenant: String
    package var priority: Int32
    /// The validated request as UTF-8 JSON, kept for status answers.
    package var specification: String
    package var tasks: [TaskSpecification]
    /// Milliseconds from acceptance after which nobody wants the result, at most `Limits.deadlineMilliseconds`;
    /// 0 = no matter when.
    package var deadlineMilliseconds: UInt64

    /// Answer for the job that has this key, with `idempotency_key_unknown` where there is none; never make one.
    package var replayOnly: Bool

    package init(
        idempotencyKey: String, requestDigest: Digest, tenant: String, priority: Int32, specification: String,
        tasks: [TaskSpecification], deadlineMilliseconds: UInt64 = 0, replayOnly: Bool = false
    ) {
        self.deadlineMilliseconds = deadlineMilliseconds
        self.idempotencyKey = idempotencyKey
        self.requestDigest = requestDigest
        self.tenant = tenant
        self.priority = priority
        self.specification = specification
        self.tasks = tasks
        self.replayOnly = replayOnly
    }
}

/// Broker → client: the job is on disk.
package struct Accepted: Sendable, Hashable {
    package var job: String
    package var replayed: Bool

    package init(job: String, replayed: Bool) {
        self.job = job
        self.replayed = replayed
    }
}

/// Client → broker: one job's status, or with an empty `job` a page of jobs, newest first, older than `before`.
package struct Query: Sendable, Hashable {
    package var job: String
    package var before: String
    package var limit: UInt32
    /// Only jobs accepted before this; 0 = any. For pages over several brokers, where `before` is of another one.
    package var beforeUnixMilliseconds: UInt64

    package init(job: String, before: String = "", limit: UInt32 = 16, beforeUnixMilliseconds: UInt64 = 0) {
        self.job = job
        self.before = before
        self.limit = limit
        self.beforeUnixMilliseconds = beforeUnixMilliseconds
    }
}

package enum JobState: UInt32, Sendable, CaseIterable {
    case accepted = 1, running, done, failed, cancelled, dead

    /// Terminal states never change.
    package var isTerminal: Bool { self != .accepted && self != .running }
}

package enum TaskState: UInt32, Sendable, CaseIterable {
    case blocked = 1, ready, leased, done, dead, cancelled
}

package struct TaskStatus: Sendable, Hashable {
    package var name: String
    package var stage: String
    package var state: TaskState
    /// Worker that holds or last held the task.
    package var worker: String
    package var attempt: UInt32
    package var step: UInt32
    package var totalSteps: UInt32
    /// Time from the last lease's grant to now or to the end.
    package var elapsedMilliseconds: UInt64
    /// Estimated time to the end of this task; 0 = not known.
    package var remainingMilliseconds: UInt64
    /// What the stage wants the user to know (a truncated prompt, an unchanged prompt).
    package var notes: [String]

    package init(
        name: String, stage: String, state: TaskState, worker: String = "", attempt: UInt32 = 0, step: UInt32 = 0,
        totalSteps: UInt32 = 0, elapsedMilliseconds: UInt64 = 0, remainingMilliseconds: UInt64 = 0, notes: [String] = []
    ) {
        self.name = name
        self.stage = stage
        self.state = state
        self.worker = worker
        self.attempt = attempt
        self.step = step
        self.totalSteps = totalSteps
        self.elapsedMilliseconds = elapsedMilliseconds
        self.remainingMilliseconds = remainingMilliseconds
        self.notes = notes
    }
}

package struct JobStatus: Sendable, Hashable {
    package var job: String
    package var state: JobState
    /// Rises with every change; the cursor of WATCH.
    package var revision: UInt64
    package var createdUnixMilliseconds: UInt64
    package var finishedUnixMilliseconds: UInt64
    package var priority: Int32
    /// Jobs that will start before this one; 0 when running.
    package var queuePosition: UInt32
    package var remainingMilliseconds: UInt64
    package var specification: String
    package var tasks: [TaskStatus]
    /// Outputs of every done task with durable outputs, named `task.output` (`mux.video`, `denoise.latents`).
    package var outputs: [NamedRef]
    package var errorCode: String
    package var errorMessage: String
    /// When the deadline passes, by the broker's wall clock as it is now; 0 = none.
    package var deadlineUnixMilliseconds: UInt64
    /// Name of the broker that has the job.
    package var cell: String

    package init(
        job: String, state: JobState, revision: UInt64, createdUnixMilliseconds: UInt64,
        finishedUnixMilliseconds: UInt64 = 0, priority: Int32 = 0, queuePosition: UInt32 = 0,
        remainingMilliseconds: UInt64 = 0, specification: String, tasks: [TaskStatus], outputs: [NamedRef] = [],
        errorCode: String = "", errorMessage: String = "", deadlineUnixMilliseconds: UInt64 = 0, cell: String = ""
    ) {
        self.deadlineUnixMilliseconds = deadlineUnixMilliseconds
        self.job = job
        self.state = state
        self.revision = revision
        self.createdUnixMilliseconds = createdUnixMilliseconds
        self.finishedUnixMilliseconds = finishedUnixMilliseconds
        self.priority = priority
        self.queuePosition = queuePosition
        self.remainingMilliseconds = remainingMilliseconds
        self.specification = specification
        self.tasks = tasks
        self.outputs = outputs
        self.errorCode = errorCode
        self.errorMessage = errorMessage
        self.cell = cell
    }
}

/// Broker → client: jobs as they are now (one for QUERY with an id, a page otherwise).
package struct StatusPage: Sendable, Hashable {
    package var jobs: [JobStatus]
    package var hasMore: Bool

    package init(jobs: [JobStatus], hasMore: Bool) {
        self.jobs = jobs
        self.hasMore = hasMore
    }
}

/// Client → broker: send an EVENT now and whenever the job's revision passes `revision`, until it is terminal.
package struct Watch: Sendable, Hashable {
    package var job: String
    package var revision: UInt64

    package init(job: String, revision: UInt64) {
        self.job = job
        self.revision = revision
    }
}

/// Broker → client: which terminal state won.
package struct CancelOutcome: Sendable, Hashable {
    package var job: String
    package var state: JobState

    package init(job: String, state: JobState) {
        self.job = job
        self.state = state
    }
}

/// Broker → client: the cluster as the broker sees it, for `/healthz`, `zoetrope status` and scale decisions.
package struct ClusterStatus: Sendable, Hashable {
    package struct Worker: Sendable, Hashable {
        package var worker: String
        package var capabilities: [Capability]
        package var slots: UInt32
        package var busy: UInt32
        package var millisecondsSinceBeat: UInt64
        /// Gets no new task and leaves when it is empty.
        package var isDraining: Bool
        package var fetched: FetchCounters
        /// Previews made since its start.
        package var previews: UInt64
        /// `Beat.warm` of its newest beat; of a big cluster fewer, or none.
        package var warm: [String]

        package init(
            worker: String, capabilities: [Capability], slots: UInt32, busy: UInt32, millisecondsSinceBeat: UInt64,
            isDraining: Bool = false, fetched: FetchCounters = FetchCounters(), previews: UInt64 = 0,
            warm: [String] = []
        ) {
            self.warm = warm
            self.previews = previews
            self.fetched = fetched
            self.worker = worker
            self.capabilities = capabilities
            self.slots = slots
            self.busy = busy
            self.millisecondsSinceBeat = millisecondsSinceBeat
            self.isDraining = isDraining
        }
    }

    package var workers: [Worker]
    package var queuedJobs: UInt32
    package var runningJobs: UInt32
    /// The broker refuses new jobs and goes on with the others.
    package var isDraining: Bool
    /// The broker's name.
    package var cell: String
    /// Expected time until the last of its jobs ends; 0 = no jobs, or not known.
    package var backlogMilliseconds: UInt64
    /// What the broker has counted since its start. Names that a reader does not know are a newer broker's.
    package var counts: [Count]

    package init(
        workers: [Worker], queuedJobs: UInt32, runningJobs: UInt32, isDraining: Bool = false, cell: String = "",
        backlogMilliseconds: UInt64 = 0, counts: [Count] = []
    ) {
        self.workers = workers
        self.queuedJobs = queuedJobs
        self.runningJobs = runningJobs
        self.isDraining = isDraining
        self.cell = cell
        self.backlogMilliseconds = backlogMilliseconds
        self.counts = counts
    }

    /// One counter of the broker (`BrokerCount` has the names), or a measure of it now.
    package struct Count: Sendable, Hashable {
        package var name: String
        package var value: UInt64

        package init(name: String, value: UInt64) {
            self.name = name
            self.value = value
        }
    }

    /// The count of this name; nil where the broker does not keep it.
    package func count(_ name: BrokerCount) -> UInt64? { counts.first { $0.name == name.rawValue }?.value }
}
