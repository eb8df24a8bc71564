package import Failure

/// A task held under one lease: results count only while this fence is the current one.
package struct Lease: Sendable, Hashable {
    package var task: TaskID
    package var fence: UInt64

    package init(task: TaskID, fence: UInt64) {
        self.task = task
        self.fence = fence
    }
}

/// Broker → worker: do this. Fence and attempt are on disk before it leaves.
package struct Assign: Sendable, Hashable {
    package var lease: Lease
    package var attempt: UInt32
    package var stage: String
    package var model: String
    /// UTF-8 JSON, as submitted.
    package var parameters: String
    package var inputs: [NamedRef]
    package var durableOutputs: Bool
    /// The newest durable checkpoint of an earlier attempt, with the step it stands for.
    package var checkpoint: TensorRef?
    package var checkpointStep: UInt32
    /// The one before it, for when the newest turns out to be damaged, and its step.
    package var earlierCheckpoint: TensorRef?
    package var earlierCheckpointStep: UInt32
    package var leaseMilliseconds: UInt32
    /// How the job's earlier tasks that this one builds on were computed.
    package var origins: [TaskOrigin]

    package init(
        lease: Lease, attempt: UInt32, stage: String, model: String, parameters: String, inputs: [NamedRef],
        durableOutputs: Bool, checkpoint: TensorRef?, checkpointStep: UInt32, earlierCheckpoint: TensorRef? = nil,
        earlierCheckpointStep: UInt32 = 0, leaseMilliseconds: UInt32, origins: [TaskOrigin] = []
    ) {
        self.origins = origins
        self.lease = lease
        self.attempt = attempt
        self.stage = stage
        self.model = model
        self.parameters = parameters
        self.inputs = inputs
        self.durableOutputs = durableOutputs
        self.checkpoint = checkpoint
        self.checkpointStep = checkpointStep
        self.earlierCheckpoint = earlierCheckpoint
        self.earlierCheckpointStep = earlierCheckpointStep
        self.leaseMilliseconds = leaseMilliseconds
    }
}

/// Worker → broker: not now (`busy`), not here (`unfit`), too late (`stale`), or handed back at a step (`yielded`, in
/// every beat until LEASE_LOST answers it). Gives the attempt back.
package struct Refuse: Sendable, Hashable {
    package var lease: Lease
    package var code: String

    package init(lease: Lease, code: String) {
        self.lease = lease
        self.code = code
    }
}

/// Worker → broker: after STORED, the state after `step` steps is durable.
package struct CheckpointReport: Sendable, Hashable {
    package var lease: Lease
    package var step: UInt32
    package var ref: TensorRef

    package init(lease: Lease, step: UInt32, ref: TensorRef) {
        self.lease = lease
        self.step = step
        self.ref = ref
    }
}

/// Worker → broker, in every beat until COMMITTED: the task is done and its outputs are where they belong.
package struct Complete: Sendable, Hashable {
    package var lease: Lease
    package var outputs: [NamedRef]
    package var elapsedMilliseconds: UInt64
    package var notes: [String]
    /// What the worker chose by itself in doing the task and may show in the results, in the stage's own words; empty
    /// when it was done as it was asked for.
    package var manner: String

    package init(
        lease: Lease, outputs: [NamedRef], elapsedMilliseconds: UInt64, notes: [String], manner: String = ""
    ) {
        self.manner = manner
        self.lease = lease
        self.outputs = outputs
        self.elapsedMilliseconds = elapsedMilliseconds
        self.notes = notes
    }
}

/// Worker → broker: the task failed here. `missingInputs` names inputs that no location could serve.
package struct Fail: Sendable, Hashable {
    package var lease: Lease
    package var code: String
    package var message: String
    package var retry: Failure.Retry
    package var missingInputs: [String]

    package init(lease: Lease, code: String, message: String, retry: Failure.Retry, missingInputs: [String] = []) {
        self.lease = lease
        self.code = code
        self.message = message
        self.retry = retry
        self.missingInputs = missingInputs
    }
}

/// Broker → worker: stop working on this lease (`cancelled`, `stalled`, `job_ended`), or give it back (`yields`).
package struct Revoke: Sendable, Hashable {
    package var lease: Lease
    package var reason: String
    /// The task is wanted back and its progress kept: a stage that can finishes the step, stores its state and hands the
    /// lease back with REFUSE `yielded`, which spends no attempt; another stage goes on to the end. Otherwise the work
    /// is worth nothing any more.
    package var yields: Bool

    package init(lease: Lease, reason: String, yields: Bool = false) {
        self.lease = lease
        self.reason = reason
        self.yields = yields
    }
}
