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

    package private(set) var phase = Phase.disconnected
    package private(set) var isIsolated = false
    package private(set) var isDraining = false
    /// The newest broker epoch seen; messages of older ones are ignored.
    package private(set) var brokerEpoch: UInt64 = 0
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
    private var assistedFence: UInt64 = 0
    /// What the newest beat said.
    private var advertisedSlots: UInt32 = 0

    private let hello: Hello
    private var beatMilliseconds: UInt64 = 1000
    private var leaseMilliseconds: UInt64 = 15_000
    private var held: [Lease: Held] = [:]
    private var lastHelloAt: UInt64 = 0
    private var lastBeatAt: UInt64 = 0
    private var lastHeardAt: UInt64 = 0
    private var hasReportedDrained = false
    private var hasLeft = false

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

    // MARK: Messages from the broker

    private mutating func receive(_ envelope: Envelope, now: Instant) -> [WorkerEffect] {
        guard envelope.brokerEpoch >= brokerEpoch, !hasLeft else { return [] }
        var effects: [WorkerEffect] = []
        lastHeardAt = now.milliseconds
        isIsolated = false
        if envelope.brokerEpoch > brokerEpoch {
            let isFirst = brokerEpoch == 0
            brokerEpoch = envelope.brokerEpoch
            effects.append(.brokerEpoch(brokerEpoch))
            if !isFirst, !isWelcome(envelope.message) { effects += sayHello(now) }
        }
        switch envelope.message {
        case .welcome(let welcome): effects += accept(welcome, now: now)
        case .needHello:
            if !effects.contains(where: isHello) { effects += sayHello(now) }
        case .beatAcknowledgement(let acknowledgement):
            if acknowledgement.drain, !isDraining { effects += beginDraining("drain") }
            // What is not COMMITTED yet cannot be meant: the same bytes were released for an earlier task.
            let releases = acknowledgement.releases.filter { !isUnconfirmedOutput($0) }
            if !releases.isEmpty { effects.append(.release(releases)) }
            let watched = acknowledgement.watched.filter { held[$0]?.occupiesSlot ?? false }
            if !watched.isEmpty { effects.append(.watched(watched)) }
        case .assign(let assign): effects += take(assign, inReplyTo: envelope.sequence, now: now)
        case .assist(let order): effects += take(order, now: now)
        case .checkpointCommitted(let lease, let step):
            if let pending = held[lease]?.checkpoint, pending.step <= step { held[lease]?.checkpoint = nil }
            if held[lease] != nil { effects.append(.checkpointCommitted(lease, step: step)) }
            effects += handBack(lease)
        case .committed(let lease):
            if let task = held[lease], !task.occupiesSlot {
                held[lease] = nil
                effects.append(.committed(lease))
            } else {
                // An ASSIGN that came once more after its result was COMMITTED: nobody would ever take this one away.
                effects += lose(lease, reason: "already_done")
            }
        case .leaseLost(let lease): effects += lose(lease, reason: "lease_lost")
        case .revoke(let revoke):
            effects +=
                revoke.yields
                ? yield(revoke.lease, reason: revoke.reason) : lose(revoke.lease, reason: revoke.reason)
        case .error(let error):
            if phase == .helloSent { effects.append(.rejected(error)) }
        default: break
        }
        return effects
    }

    private func isUnconfirmedOutput(_ digest: Digest) -> Bool {
        held.values.contains { task in
            guard case .completed(let complete) = task.work else { return false }
            return complete.outputs.contains { $0.ref.digest == digest }
        }
    }

    private func isWelcome(_ message: Message) -> Bool {
        if case .welcome = message { return true }
        return false
    }

    private func isHello(_ effect: WorkerEffect) -> Bool {
        if case .send(.hello, _) = effect { return true }
        return false
    }

    private mutating func accept(_ welcome: Welcome, now: Instant) -> [WorkerEffect] {
        guard phase != .disconnected else { return [] }
        phase = .ready
        beatMilliseconds = UInt64(max(1, welcome.beatMilliseconds))
        leaseMilliseconds = UInt64(max(1, welcome.leaseMilliseconds))
        return [.welcomed(welcome)] + beat(now)
    }

    private mutating func take(_ assign: Assign, inReplyTo sequence: UInt64, now: Instant) -> [WorkerEffect] {
        let lease = assign.lease
        if held[lease] != nil { return [] }
        var effects: [WorkerEffect] = []
        for other in held.keys where other.task == lease.task {
            // An ASSIGN overtaken by a newer one of the same task: its lease is gone already.
            if other.fence > lease.fence {
                return [.send(.refuse(Refuse(lease: lease, code: "stale")), inReplyTo: sequence)]
            }
            effects += lose(other, reason: "lease_lost")
        }
        let canServe = hello.capabilities.contains {
            $0.stage == assign.stage && (assign.model.isEmpty || $0.model == assign.model)
        }
        guard canServe else {
            return effects + [.send(.refuse(Refuse(lease: lease, code: "unfit")), inReplyTo: sequence)]
        }
        guard freeSlots > 0, held.count < Limits.runningTasksPerWorker else {
            return effects + [.send(.refuse(Refuse(lease: lease, code: "busy")), inReplyTo: sequence)]
        }
        held[lease] = Held(work: .computing, step: assign.checkpointStep, progressAt: now.milliseconds)
        return effects + [.start(assign)]
    }

    /// Whoever cannot help stays away: the leader waits a moment for those who were sent, and begins without the others.
    private mutating func take(_ order: AssistOrder, now: Instant) -> [WorkerEffect] {
        if !order.follows { assistedFence = order.lease.fence }
        let canServe = hello.capabilities.contains {
            $0.stage == order.stage && (order.model.isEmpty || $0.model == order.model)
        }
        let holdsTask = held.keys.contains { $0.task == order.lease.task }
        guard canServe, !holdsTask, held.count < Limits.runningTasksPerWorker else { return beatIfReady(now) }
        if order.follows {
            let followed = held.values.count { if case .following = $0.work { true } else { false } }
            guard !isDraining, followed < Limits.followedPerWorker else { return [] }
            held[order.lease] = Held(work: .following, step: 0, progressAt: now.milliseconds)
            return [.assist(order)]
        }
        guard freeSlots > 0 else { return beatIfReady(now) }
        held[order.lease] = Held(work: .assisting, step: 0, progressAt: now.milliseconds)
        return [.assist(order)] + beatIfReady(now)
    }

    private mutating func lose(_ lease: Lease, reason: String) -> [WorkerEffect] {
        guard let task = held[lease] else { return [] }
        guard task.isRunning else {
            held[lease] = nil
            return []
        }
        guard !task.isStopping else { return [] }
        held[lease]?.work = .stopping
        held[lease]?.checkpoint = nil
        return [.cancel(lease, reason: reason)]
    }

    // MARK: Handing back

    private mutating func beginDraining(_ reason: String) -> [WorkerEffect] {
        isDraining = true
        return held.sorted { $0.key.fence < $1.key.fence }.flatMap { lease, task in
            task.isAssistance ? lose(lease, reason: reason) : yield(lease, reason: reason)
        }
    }

    private mutating func yield(_ lease: Lease, reason: String) -> [WorkerEffect] {
        guard case .computing = held[lease]?.work else { return [] }
        held[lease]?.work = .yielding(reason)
        return [.yield(lease, reason: reason)]
    }

    /// The lease goes back once the broker would resume from the last step: a checkpoint that is not confirmed yet is
    /// repeated with every beat, and this after it.
    private func handBack(_ lease: Lease) -> [WorkerEffect] {
        guard let task = held[lease], case .yielded = task.work, task.checkpoint == nil else { return [] }
        return sendIfReady(.refuse(Refuse(lease: lease, code: "yielded")))
    }

    // MARK: Sending

    private mutating func sayHello(_ now: Instant) -> [WorkerEffect] {
        guard !hasLeft else { return [] }
        phase = .helloSent
        lastHelloAt = now.milliseconds
        return [.send(.hello(hello), inReplyTo: 0)]
    }

    private func sendIfReady(_ message: Message) -> [WorkerEffect] {
        phase == .ready ? [.send(message, inReplyTo: 0)] : []
    }

    private mutating func beatIfReady(_ now: Instant) -> [WorkerEffect] {
        phase == .ready ? beat(now) : []
    }

    /// Everything the broker has yet to confirm, then the absolute state, so that a freed slot is announced after the
    /// result that freed it.
    private mutating func beat(_ now: Instant) -> [WorkerEffect] {
        lastBeatAt = now.milliseconds
        let tasks = held.sorted { $0.key.fence < $1.key.fence }
        var effects: [WorkerEffect] = []
        for (lease, task) in tasks {
            if let checkpoint = task.checkpoint { effects.append(.send(.checkpoint(checkpoint), inReplyTo: 0)) }
            switch task.work {
            case .completed(let complete): effects.append(.send(.complete(complete), inReplyTo: 0))
            case .failed(let fail): effects.append(.send(.fail(fail), inReplyTo: 0))
            case .yielded: effects += handBack(lease)
            case .computing, .assisting, .following, .yielding, .stopping: break
            }
        }
        let running = tasks.filter { !$0.value.isStopping && !$0.value.isAssistance }.map { lease, task in
            RunningTask(
                task: lease.task, fence: lease.fence, step: task.step, totalSteps: task.totalSteps,
                millisecondsSinceProgress: UInt32(clamping: now.elapsed(since: task.progressAt)))
        }
        advertisedSlots = freeSlots
        let beat = Beat(
            freeSlots: advertisedSlots, running: running, storeBytes: storeBytes, fetched: fetched, warm: warm,
            previews: previews, assistedFence: assistedFence)
        return effects + [.send(.beat(beat), inReplyTo: 0)]
    }

    private mutating func tick(_ now: Instant) -> [WorkerEffect] {
        var effects = checkIsolation(now)
        switch phase {
        case .disconnected: break
        case .helloSent:
            if now.elapsed(since: lastHelloAt) >= beatMilliseconds { effects += sayHello(now) }
        case .ready:
            if now.elapsed(since: lastBeatAt) >= beatMilliseconds { effects += beat(now) }
        }
        return effects
    }

    private mutating func checkIsolation(_ now: Instant) -> [WorkerEffect] {
        guard brokerEpoch > 0 else { return [] }
        let silence = now.elapsed(since: lastHeardAt)
        let patience = leaseMilliseconds * 2 / 3
        isIsolated = silence > patience
        guard silence > patience + leaseMilliseconds else { return [] }
        let computing = held.filter { $0.value.isRunning }.keys.sorted { $0.fence < $1.fence }
        return computing.flatMap { lose($0, reason: "isolated") }
    }

    private mutating func leave() -> [WorkerEffect] {
        guard !hasLeft else { return [] }
        let leases = held.keys.sorted { $0.fence < $1.fence }
        var effects = leases.flatMap { lose($0, reason: "shutdown") }
        if phase == .ready { effects.append(.send(.goodbye, inReplyTo: 0)) }
        isDraining = true
        hasLeft = true
        phase = .disconnected
        return effects
    }
}

/// The longest prefix of whole characters within `bytes` UTF-8 bytes.
func cut(_ text: String, toBytes bytes: Int) -> String {
    guard text.utf8.count > bytes else { return text }
    var kept = ""
    var size = 0
    for character in text {
        size += character.utf8.count
        if size > bytes { break }
        kept.append(character)
    }
    return kept
}
