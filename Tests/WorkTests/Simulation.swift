import Failure
import Tensor
import Wire
import Work

/// A whole small cluster in one thread under a seeded scheduler: the real broker and worker state machines over a network
/// that drops, doubles, delays and reorders, with crashes of everybody and freezes longer than a lease. After
/// `faultMilliseconds` the faults stop, and every job must reach its end.
struct Simulation {
    struct Worker {
        var state: WorkerState
        var session: SessionID
        var number: Int
        /// Which run of the process this is; its stages and messages die with it.
        var run = 0
        var isAlive = true
        var frozenUntil: UInt64 = 0
        var sequence: UInt64 = 0
        var running: [Lease: Assign] = [:]
        /// Fences whose frames are in this process's memory.
        var frames: Set<Digest> = []
    }

    enum Action {
        case toBroker(Envelope)
        case toWorker(Int, run: Int, Envelope)
        case toClient(Envelope)
        case brokerTick
        case workerTick(Int)
        case stageStep(Int, run: Int, Lease, step: UInt32)
        case clientTurn
        case crashBroker
        case startBroker
        case crashWorker(Int)
        case startWorker(Int)
        case freezeWorker(Int)
    }

    static let faultMilliseconds: UInt64 = 30_000
    static let endMilliseconds: UInt64 = 150_000
    static let steps: UInt32 = 4

    var random: SeededGenerator
    var now: UInt64 = 0
    var queue = EventQueue<Action>()
    var broker: BrokerState?
    var epoch: UInt64 = 0
    var brokerSequence: UInt64 = 0
    var workers: [Worker] = []
    let names = JobNames()
    var journal: [LedgerEntry] = []
    var records = Records()
    var history = History()
    /// Idempotency key → job, once the client has heard of it.
    var accepted: [String: String] = [:]
    var wanted: [String]
    var clientSequence: UInt64 = 0

    init(seed: UInt64) {
        random = SeededGenerator(seed: seed)
        wanted = (0..<5).map { "key-\($0)" }
        startBroker()
        let stages = [
            ["encoder", "muxer"], ["denoiser"], ["denoiser", "decoder"], ["encoder", "denoiser", "decoder", "muxer"],
        ]
        for (number, kinds) in stages.enumerated() {
            let hello = Hello(
                worker: "w\(number)", capabilities: kinds.map { Capability(stage: $0, model: "m1") }, slots: 1,
                dataLocations: [], numerics: "n", processID: 1)
            workers.append(Worker(state: WorkerState(hello: hello), session: makeSession(), number: number))
            act(number, .connected)
            schedule(.workerTick(number), after: 100)
        }
        schedule(.brokerTick, after: 100)
        schedule(.clientTurn, after: 10)
        scheduleFaults()
    }

    var isFaulty: Bool { now < Self.faultMilliseconds }

    private mutating func scheduleFaults() {
        for _ in 0..<Int.random(in: 0...3, using: &random) { scheduleFault(.crashBroker) }
        for number in workers.indices {
            for _ in 0..<Int.random(in: 0...2, using: &random) { scheduleFault(.crashWorker(number)) }
            if Bool.random(using: &random) { scheduleFault(.freezeWorker(number)) }
        }
    }

    private mutating func scheduleFault(_ action: Action) {
        schedule(action, after: UInt64.random(in: 100..<Self.faultMilliseconds, using: &random))
    }

    mutating func run() {
        while let (time, action) = queue.pop(), time < Self.endMilliseconds {
            now = time
            perform(action)
            if !isFaulty, history.areAllOver, accepted.count == wanted.count { return }
        }
    }

    // MARK: The scheduler

    mutating func schedule(_ action: Action, after delay: UInt64) { queue.push(action, at: now + delay) }

    private mutating func perform(_ action: Action) {
        switch action {
        case .toBroker(let envelope): handle(.received(envelope))
        case .toWorker(let number, let run, let envelope):
            guard workers[number].isAlive, workers[number].run == run else { return }
            guard workers[number].frozenUntil <= now else {
                queue.push(action, at: workers[number].frozenUntil)
                return
            }
            history.checkPromise(envelope.message)
            act(number, .received(envelope))
        case .toClient(let envelope): hearClient(envelope)
        case .brokerTick:
            handle(.tick)
            schedule(.brokerTick, after: 200)
        case .workerTick(let number):
            if workers[number].isAlive, workers[number].frozenUntil <= now { act(number, .tick) }
            schedule(.workerTick(number), after: 250)
        case .stageStep(let number, let run, let lease, let step): stageStep(number, run: run, lease, step: step)
        case .clientTurn:
            clientTurn()
            schedule(.clientTurn, after: 700)
        case .crashBroker: crashBroker()
        case .startBroker: startBroker()
        case .crashWorker(let number):
            guard workers[number].isAlive else { return }
            workers[number].isAlive = false
            schedule(.startWorker(number), after: UInt64.random(in: 100...6000, using: &random))
        case .startWorker(let number): startWorker(number)
        case .freezeWorker(let number):
            workers[number].frozenUntil = now + UInt64.random(in: 500...8000, using: &random)
        }
    }

    // MARK: The network

    private mutating func transmit(_ action: Action) {
        guard isFaulty else { return schedule(action, after: UInt64.random(in: 1...20, using: &random)) }
        let dice = Int.random(in: 0..<100, using: &random)
        if dice < 8 { return }
        let copies = dice < 16 ? 2 : 1
        for _ in 0..<copies {
            let isSlow = Int.random(in: 0..<20, using: &random) == 0
            schedule(action, after: UInt64.random(in: 1...(isSlow ? 4000 : 60), using: &random))
        }
    }

    // MARK: The broker

    private mutating func startBroker() {
        guard broker == nil else { return }
        epoch += 1
        var configuration = BrokerConfiguration(epoch: epoch)
        configuration.beatMilliseconds = 500
        configuration.leaseMilliseconds = 3000
        var records = Records()
        for entry in journal { records.apply(entry) }
        let names = names
        broker = BrokerState(configuration: configuration, records: records, startedAt: clock, newJob: { names.next() })
    }

    private var clock: Instant { Instant(milliseconds: now, unixMilliseconds: 1_000_000 + now) }

    /// The broker dies outside of an event; every second time while it handles the next one.
    private mutating func crashBroker() {
        broker = nil
        schedule(.startBroker, after: UInt64.random(in: 100...5000, using: &random))
    }

    private mutating func handle(_ event: BrokerEvent) {
        let clock = clock
        guard let step = broker?.handle(event, now: clock) else { return }
        // A crash before the commit loses everything, one after it loses only the messages.
        let dice = isFaulty && !step.entries.isEmpty ? Int.random(in: 0..<120, using: &random) : 9
        if dice == 0 { return crashBroker() }
        for entry in step.entries {
            history.check(entry)
            journal.append(entry)
            records.apply(entry)
        }
        if dice == 1 { return crashBroker() }
        for outgoing in step.sends {
            brokerSequence += 1
            let envelope = Envelope(
                session: session(99), sequence: brokerSequence, brokerEpoch: epoch, inReplyTo: outgoing.inReplyTo,
                message: outgoing.message)
            if let number = workers.firstIndex(where: { $0.session == outgoing.session }) {
                transmit(.toWorker(number, run: workers[number].run, envelope))
            } else if outgoing.session == session(200) {
                transmit(.toClient(envelope))
            }
        }
    }

    // MARK: The workers

    private mutating func makeSession() -> SessionID {
        SessionID(bytes: (0..<16).map { _ in UInt8.random(in: 0...255, using: &random) })!
    }

    private mutating func startWorker(_ number: Int) {
        let old = workers[number]
        let hello = Hello(
            worker: "w\(number)", capabilities: old.state.capabilities, slots: 1, dataLocations: [], numerics: "n",
            processID: 1)
        workers[number] = Worker(
            state: WorkerState(hello: hello), session: makeSession(), number: number, run: old.run + 1)
        act(number, .connected)
    }

    private mutating func act(_ number: Int, _ event: WorkerEvent) {
        let effects = workers[number].state.handle(event, now: clock)
        for effect in effects {
            switch effect {
            case .send(let message, let inReplyTo):
                workers[number].sequence += 1
                let envelope = Envelope(
                    session: workers[number].session, sequence: workers[number].sequence,
                    brokerEpoch: workers[number].state.brokerEpoch, inReplyTo: inReplyTo, message: message)
                transmit(.toBroker(envelope))
            case .start(let assign):
                workers[number].running[assign.lease] = assign
                scheduleStage(number, assign.lease, step: assign.checkpointStep + 1)
            case .cancel(let lease, _):
                workers[number].running[lease] = nil
                act(number, .stopped(lease))
            case .release(let digests): workers[number].frames.subtract(digests)
            default: break
            }
        }
    }

    private mutating func scheduleStage(_ number: Int, _ lease: Lease, step: UInt32) {
        let delay = UInt64.random(in: 50...600, using: &random)
        schedule(.stageStep(number, run: workers[number].run, lease, step: step), after: delay)
    }

    private mutating func stageStep(_ number: Int, run: Int, _ lease: Lease, step: UInt32) {
        guard workers[number].isAlive, workers[number].run == run, let assign = workers[number].running[lease] else {
            return
        }
        guard workers[number].frozenUntil <= now else {
            queue.push(.stageStep(number, run: run, lease, step: step), at: workers[number].frozenUntil)
            return
        }
        if let missing = missingInput(of: assign) {
            let failure = Failure("input_missing", "no location serves \(missing)", retry: .otherWorker)
            return conclude(number, lease, .failed(lease, failure, missingInputs: [missing]))
        }
        if isFaulty, Int.random(in: 0..<60, using: &random) == 0 {
            let retry = Failure.Retry.allCases[Int.random(in: 0..<4, using: &random)]
            return conclude(
                number, lease, .failed(lease, Failure("broken", "by chance", retry: retry), missingInputs: []))
        }
        act(number, .progress(lease, step: step, totalSteps: Self.steps))
        let unique = digest(Int(lease.fence) * 64 + Int(step))
        if step < Self.steps {
            let ref = TensorRef(digest: unique, dtype: .uint8, shape: [1], locations: [])
            if lease.task.name == "denoise" { act(number, .checkpointStored(lease, step: step, ref: ref)) }
            scheduleStage(number, lease, step: step + 1)
            return
        }
        if !assign.durableOutputs { workers[number].frames.insert(unique) }
        let ref = TensorRef(digest: unique, dtype: .uint8, shape: [1], locations: [])
        let outputs = [NamedRef(name: videoOutput[lease.task.name] ?? "", ref: ref)]
        conclude(number, lease, .finished(lease, outputs: outputs, elapsedMilliseconds: 5, notes: []))
    }

    private mutating func conclude(_ number: Int, _ lease: Lease, _ event: WorkerEvent) {
        workers[number].running[lease] = nil
        act(number, event)
    }

    /// Frames live in the memory of the decoder that made them, and die with it.
    private func missingInput(of assign: Assign) -> String? {
        guard assign.stage == "muxer", let frames = assign.inputs.first else { return nil }
        let isServed = workers.contains { $0.isAlive && $0.frames.contains(frames.ref.digest) }
        return isServed ? nil : frames.name
    }

    // MARK: The client

    private mutating func clientTurn() {
        for key in wanted where accepted[key] == nil { tell(.submit(video(key: key))) }
        if isFaulty, let job = accepted.values.sorted().randomElement(using: &random),
            Int.random(in: 0..<40, using: &random) == 0
        {
            tell(.cancel(job: job))
        }
    }

    private mutating func tell(_ message: Message) {
        clientSequence += 1
        transmit(.toBroker(Envelope(session: session(200), sequence: clientSequence, brokerEpoch: 0, message: message)))
    }

    private mutating func hearClient(_ envelope: Envelope) {
        history.checkPromise(envelope.message)
        guard case .accepted(let answer) = envelope.message, let key = records.jobs[answer.job]?.key.key else { return }
        if let known = accepted[key], known != answer.job { history.violations.append("key \(key) got two jobs") }
        accepted[key] = answer.job
    }
}
