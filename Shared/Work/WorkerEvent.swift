package import Failure
package import Wire

/// What happens to a worker: on its connection, on its clock and in its stage.
package enum WorkerEvent: Sendable {
    // The connection
    /// The control connection is up, for the first time or again.
    case connected
    case disconnected
    case received(Envelope)

    // The clock
    /// Comes several times per beat interval (100 ms is right); beats, re-sends and the isolation rule hang on it.
    case tick

    // The stage
    /// The stage has done `step` of `totalSteps` units of its own work (total 0 = not known yet).
    case progress(Lease, step: UInt32, totalSteps: UInt32)
    /// The broker's store answered STORED for the state after `step` steps.
    case checkpointStored(Lease, step: UInt32, ref: TensorRef)
    /// The task is done and its outputs lie where they belong. Frees the slot. `manner` as in `Complete`.
    case finished(
        Lease, outputs: [NamedRef], elapsedMilliseconds: UInt64, notes: [String], manner: String = "")
    /// The task failed. Frees the slot. `missingInputs` names inputs that no location could serve.
    case failed(Lease, Failure, missingInputs: [String])
    /// The stage has stopped computing after a `cancel` or `yield` effect, or does not assist any more. Frees the slot.
    /// (`finished` or `failed` do as well; after a `yield` they count.)
    case stopped(Lease)

    // The process
    /// Take no new work and hand back what can be handed back; `drained` follows when nothing runs and nothing is
    /// unconfirmed.
    case drain
    /// The process is about to end: cancels what runs and says GOODBYE, so that the broker gives the leases to others.
    case goodbye
}

/// What the worker's runtime must do, in this order.
package enum WorkerEffect: Sendable, Hashable {
    /// Send on the control connection. A send that fails needs no report: beats re-send all that matters.
    case send(Message, inReplyTo: UInt64)
    /// Put this epoch into every later envelope.
    case brokerEpoch(UInt64)
    /// The broker knows us: intervals, and where durable outputs and checkpoints are stored.
    case welcomed(Welcome)
    /// The broker refuses this worker (another protocol version): tell the operator.
    case rejected(ErrorReply)
    /// Begin this task; its slot is taken.
    case start(Assign)
    /// Help with another worker's task; a slot is taken. `cancel` may follow; answered by `stopped` in any case.
    case assist(AssistOrder)
    /// Stop working on the lease as soon as possible and answer with `stopped`; results no longer count.
    case cancel(Lease, reason: String)
    /// Store the state after the present step and answer with `stopped`; a stage without such a state finishes instead.
    case yield(Lease, reason: String)
    /// The broker has the outputs on record: a durable copy kept only for re-sending may go.
    case committed(Lease)
    /// The broker will resume from this step.
    case checkpointCommitted(Lease, step: UInt32)
    /// Somebody looks at the previews of these leases; said again with every beat as long as that is so.
    case watched([Lease])
    /// No unfinished task needs these blobs any more.
    case release([Digest])
    /// Follows `drain` once.
    case drained
}
