package import Wire

/// A durable state after so many steps.
package struct CheckpointMark: Sendable, Hashable, Codable {
    package var step: UInt32
    package var ref: TensorRef

    package init(step: UInt32, ref: TensorRef) {
        self.step = step
        self.ref = ref
    }
}

/// Durable state of one task of a job.
package struct TaskRecord: Sendable, Hashable, Codable {
    package var specification: TaskSpecification
    package var state: TaskState
    /// Fence of the current or last lease; 0 = never leased.
    package var fence: UInt64 = 0
    /// Leases granted and not given back.
    package var attempts: UInt32 = 0
    /// Leases whose worker vanished.
    package var crashes: UInt32 = 0
    /// Retryable failures reported or found by the watchdog.
    package var failures: UInt32 = 0
    /// Worker of the current or last lease.
    package var worker = ""
    package var session: SessionID?
    package var numerics = ""
    package var grantedUnixMilliseconds: UInt64 = 0
    package var endedUnixMilliseconds: UInt64 = 0
    package var checkpoint: TensorRef?
    package var checkpointStep: UInt32 = 0
    /// Arithmetic that made the checkpoint.
    package var checkpointNumerics = ""
    /// The checkpoint before that one, kept for when the newest turns out to be damaged; nil in ledgers of earlier
    /// releases.
    package var earlierCheckpoint: CheckpointMark?
    /// Whether a run resumed from a checkpoint of other arithmetic, which is correct but not bit-identical.
    package var isResumedElsewhere = false
    package var outputs: [NamedRef] = []
    /// True once nobody needs this task's non-durable outputs any more.
    package var areOutputsReleased = false
    package var elapsedMilliseconds: UInt64 = 0
    package var notes: [String] = []
    /// What the worker chose by itself (`Complete.manner`); nil for nothing, and in ledgers of earlier releases.
    package var manner: String?
    /// Names of workers that should not get the task again while another can take it.
    package var excludedWorkers: [String] = []
    /// How the last lease ended when it ended without a result; for people.
    package var lastProblem = ""
    /// How leases ended badly, oldest first; nil in ledgers of earlier releases and where all went well.
    package var incidents: [IncidentRecord]?
    /// `failures` by class (`LeaseEnd.failureClass`).
    package var failureClasses: [String: UInt32]?

    package init(specification: TaskSpecification, state: TaskState) {
        self.specification = specification
        self.state = state
    }

    /// Names of the tasks whose outputs this one reads.
    package var producers: [String] {
        specification.inputs.compactMap {
            if case .task(let name, _) = $0.source { name } else { nil }
        }
    }
}

/// Durable state of one job.
package struct JobRecord: Sendable, Hashable, Codable {
    package var job: String
    package var key: SubmissionKey
    package var requestDigest: Digest
    package var priority: Int32
    package var specification: String
    /// Rises with every accepted job: the age order.
    package var ordinal: UInt64
    package var state = JobState.accepted
    package var createdUnixMilliseconds: UInt64
    package var finishedUnixMilliseconds: UInt64 = 0
    package var errorCode = ""
    package var errorMessage = ""
    package var tasks: [TaskRecord]
    /// The task that ended the job, if one did.
    package var endedBy: String?
    /// The newest job that goes on with what this one had done.
    package var retriedAs: String?
    /// Nil = no matter when the job ends.
    package var deadline: Deadline?

    package init(_ acceptance: JobAcceptance, ordinal: UInt64) {
        job = acceptance.job
        key = acceptance.key
        requestDigest = acceptance.requestDigest
        priority = acceptance.priority
        specification = acceptance.specification
        createdUnixMilliseconds = acceptance.unixMilliseconds
        self.ordinal = ordinal
        deadline = acceptance.deadline
        tasks = acceptance.tasks.map { task in
            let waits = task.inputs.contains { if case .task = $0.source { true } else { false } }
            return TaskRecord(specification: task, state: waits ? .blocked : .ready)
        }
        for carried in acceptance.carried ?? [] { take(over: carried) }
        refreshReadiness()
    }

    package func index(of task: String) -> Int? { tasks.firstIndex { $0.specification.name == task } }

    package func task(_ name: String) -> TaskRecord? { index(of: name).map { tasks[$0] } }

    /// Whether every task that reads `task`'s outputs is done (or there is none).
    func areConsumersDone(of task: String) -> Bool {
        tasks.allSatisfy { $0.state == .done || !$0.producers.contains(task) }
    }

    /// BLOCKED and READY follow from the producers' states.
    mutating func refreshReadiness() {
        let done = Set(tasks.filter { $0.state == .done }.map(\.specification.name))
        for index in tasks.indices where tasks[index].state == .blocked || tasks[index].state == .ready {
            tasks[index].state = tasks[index].producers.allSatisfy(done.contains) ? .ready : .blocked
        }
    }

    /// The tensors a task starts from.
    /// - Returns: nil when a producer has not (or no longer) the named output.
    package func inputs(of task: TaskRecord) -> [NamedRef]? {
        var inputs: [NamedRef] = []
        for input in task.specification.inputs {
            switch input.source {
            case .blob(let ref): inputs.append(NamedRef(name: input.name, ref: ref))
            case .task(let name, let output):
                guard let producer = self.task(name), producer.state == .done,
                    let found = producer.outputs.first(where: { $0.name == output })
                else { return nil }
                inputs.append(NamedRef(name: input.name, ref: found.ref))
            }
        }
        return inputs
    }
}
