import Failure
package import Wire

/// The worker's side of the control protocol (bus.md §2.6) as a pure state machine: no sockets, no clock, no threads.
///
/// `DISCONNECTED → HELLO_SENT → READY`; in READY it beats its absolute state, takes tasks into free slots, and repeats
/// CHECKPOINT, COMPLETE and FAIL with every beat until the broker answers them. A worker that hears nothing for two
/// thirds of a lease is isolated: it computes on for one more lease, which the fence makes safe, and then stops.
/// A new broker epoch makes it introduce itself again and go on with what it holds.
///
/// ```swift
/// var worker = WorkerState(hello: hello)
/// for effect in worker.handle(.connected, now: now) { perform(effect) }
/// ```
package struct WorkerState: Sendable {
    package enum Phase: Sendable, Hashable {
        case disconnected, helloSent, ready
    }

    package internal(set) var phase = Phase.disconnected
    package internal(set) var isIsolated = false
    package internal(set) var isDraining = false
    /// The newest broker epoch seen; messages of older ones are ignored.
    package internal(set) var brokerEpoch: UInt64 = 0
    /// Bytes in the worker's own blob memory, for the beat; the runtime keeps it up to date.
    package var storeBytes: UInt64 = 0
    /// What was fetched so far, for the beat; as above.
    package var fetched = FetchCounters()
    /// Affinities of tasks that need no weights loaded or changed, for the beat; as above.
    package var warm: [String] = []
    /// Previews made so far; as above.
    package var previews: UInt64 = 0
    /// Slots that this broker must not count on: those that tasks of other brokers take, or that are offered to another
    /// one first (`WorkerCells`).
    package var slotsElsewhere: UInt32 = 0
    /// Of the newest order that asked for a slot, for the beat.
    var assistedFence: UInt64 = 0
    /// What the newest beat said.
    var advertisedSlots: UInt32 = 0

    let hello: Hello
    var beatMilliseconds: UInt64 = 1000
    var leaseMilliseconds: UInt64 = 15_000
    var held: [Lease: Held] = [:]
    var lastHelloAt: UInt64 = 0
    var lastBeatAt: UInt64 = 0
    var lastHeardAt: UInt64 = 0
    var hasReportedDrained = false
    var hasLeft = false

    package init(hello: Hello) { self.hello = hello }

    /// What the worker said in HELLO that it can do.
    package var capabilities: [Capability] { hello.capabilities }

    /// Slots that could take a task now.
    package var freeSlots: UInt32 {
        let taken = occupiedSlots + slotsElsewhere
        return isDraining || taken >= hello.slots ? 0 : hello.slots - taken
    }

    /// Slots that this broker's tasks take.
    package var occupiedSlots: UInt32 { UInt32(held.values.count { $0.occupiesSlot }) }

    /// Whether this event gives a slot back.
    package func freesSlot(_ event: WorkerEvent) -> Bool {
        switch event {
        case .finished(let lease, _, _, _, _), .failed(let lease, _, _): held[lease]?.occupiesSlot ?? false
        case .stopped(let lease):
            switch held[lease]?.work {
            case .assisting, .yielding, .stopping: true
            default: false
            }
        default: false
        }
    }

    /// A beat, when the newest one said another number of free slots than there are.
    package mutating func beatIfSlotsChanged(now: Instant) -> [WorkerEffect] {
        phase == .ready && freeSlots != advertisedSlots ? beat(now) : []
    }

    /// A beat whose answer tells that everything the broker decided before has arrived.
    package mutating func beatOnceMore(now: Instant) -> [WorkerEffect] { beatIfReady(now) }

    /// Whether nothing runs and the broker has answered everything.
    package var isEmpty: Bool { held.isEmpty }

    /// Advances the machine by one event.
    /// - Parameter now: only `milliseconds` is read.
    package mutating func handle(_ event: WorkerEvent, now: Instant) -> [WorkerEffect] {
        var effects = react(to: event, now: now)
        if isDraining, held.isEmpty, !hasReportedDrained {
            hasReportedDrained = true
            effects.append(.drained)
        }
        return effects
    }

    private mutating func react(to event: WorkerEvent, now: Instant) -> [WorkerEffect] {
        switch event {
        case .connected: return sayHello(now)
        case .disconnected:
            phase = .disconnected
            return []
        case .received(let envelope): return receive(envelope, now: now)
        case .tick: return tick(now)
        case .progress(let lease, let step, let totalSteps):
            noteProgress(lease, step: step, totalSteps: totalSteps, now: now)
            return []
        case .checkpointStored(let lease, let step, let ref):
            guard held[lease]?.isStopping == false else { return [] }
            let report = CheckpointReport(lease: lease, step: step, ref: ref)
            held[lease]?.checkpoint = report
            return sendIfReady(.checkpoint(report))
        case .finished(let lease, let outputs, let elapsed, let notes, let manner):
            let complete = Complete(
                lease: lease, outputs: outputs, elapsedMilliseconds: elapsed, notes: notes, manner: manner)
            return conclude(lease, with: .completed(complete), message: .complete(complete), now: now)
        case .failed(let lease, let failure, let missingInputs):
            let fail = Fail(
                lease: lease, code: failure.code, message: describe(failure), retry: failure.retry,
                missingInputs: missingInputs)
            return conclude(lease, with: .failed(fail), message: .fail(fail), now: now)
        case .stopped(let lease):
            guard let task = held[lease], task.isRunning else { return [] }
            if case .yielding = task.work {
                held[lease]?.work = .yielded
            } else if task.isStopping || task.isAssistance {
                held[lease] = nil
            } else {
                return []
            }
            return beatIfReady(now)
        case .drain: return beginDraining("drain") + beatIfReady(now)
        case .goodbye: return leave()
        }
    }

    // MARK: The stage's reports

    private mutating func noteProgress(_ lease: Lease, step: UInt32, totalSteps: UInt32, now: Instant) {
        guard var task = held[lease], task.occupiesSlot else { return }
        if task.step != step || task.totalSteps != totalSteps { task.progressAt = now.milliseconds }
        task.step = step
        task.totalSteps = totalSteps
        held[lease] = task
    }

    /// The stage has let go of a lease. After a cancel nobody wants the result and only the slot matters.
    private mutating func conclude(
        _ lease: Lease, with work: Held.Work, message: Message, now: Instant
    ) -> [WorkerEffect] {
        guard let task = held[lease], task.occupiesSlot else { return [] }
        if task.isStopping {
            held[lease] = nil
            return beatIfReady(now)
        }
        held[lease]?.work = work
        held[lease]?.checkpoint = nil
        held[lease]?.progressAt = now.milliseconds
        // The beat carries this message too: it tells the broker of the free slot.
        return beatIfReady(now)
    }

    private func describe(_ failure: Failure) -> String {
        let place = failure.field.map { " (\($0))" } ?? ""
        let advice = failure.remedy.map { " \($0)" } ?? ""
        return cut("\(failure.message)\(place)\(advice)", toBytes: Limits.messageBytes)
    }
}
