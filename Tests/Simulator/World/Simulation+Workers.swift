import Failure
import Wire
import Work

/// A worker's process after process under one name. A class, so that its state is changed in place.
final class WorkerProcess {
    var state: WorkerState
    var session: SessionID
    let hello: Hello
    /// Which run of the process this is; its stages and messages die with it.
    var run = 0
    var isAlive = true
    var isConnected = true
    /// Asked to stop: hands everything back and leaves.
    var isLeaving = false
    /// When a worker that leaves stops even what has not come to its next step, and when it ends for good.
    var stopsAt: UInt64 = 0
    var leavesBy: UInt64 = 0
    /// When nothing was left to do after an order to drain.
    var drainedAt: UInt64?
    var frozenUntil: UInt64 = 0
    /// What this host's boot clock shows at simulated time 0.
    var boot: UInt64 = 0
    var sequence: UInt64 = 0
    var runs: [StageRun] = []
    /// Tasks of other workers.
    var helps: [HelpRun] = []
    var unconfirmed: Set<Lease> = []
    /// Volatile outputs in this process's memory.
    var frames: Set<Content> = []

    init(hello: Hello, session: SessionID) {
        self.hello = hello
        self.session = session
        state = WorkerState(hello: hello)
    }

    func index(of lease: Lease) -> Int? { runs.firstIndex { $0.assign.lease == lease } }
}

// The workers' processes: what `WorkerDriver` does around the state machine.
extension Simulation {
    mutating func makeWorkers() {
        var kinds = [
            ["encoder", "muxer"], ["denoiser"], ["denoiser", "decoder"], ["encoder", "denoiser", "decoder", "muxer"],
        ]
        if random.below(2) == 0 { kinds.append(["decoder", "muxer"]) }
        // One that serves another model: nothing may ever come to it.
        let stranger = random.below(4) == 0 ? kinds.count : nil
        if stranger != nil { kinds.append(["encoder", "denoiser", "decoder", "muxer"]) }
        links = [Link](repeating: Link(), count: kinds.count + clients.count)
        for (number, stages) in kinds.enumerated() {
            let model = number == stranger ? "m2" : "m1"
            let hello = Hello(
                worker: "w\(number)", capabilities: stages.map { Capability(stage: $0, model: model) },
                slots: random.below(3) == 0 ? 2 : 1, dataLocations: [], numerics: random.below(8) == 0 ? "other" : "n",
                processID: UInt32(number))
            workers.append(WorkerProcess(hello: hello, session: makeSession()))
            workers[number].boot = random.below(1_000_000)
            act(number, .connected)
            schedule(.workerTick(number), after: random.between(1...250))
        }
    }

    func isRunning(_ number: Int, _ run: Int) -> Bool { workers[number].isAlive && workers[number].run == run }

    mutating func makeSession() -> SessionID {
        let bytes = (0..<16).map { _ in UInt8(truncatingIfNeeded: random.next()) }
        guard let session = SessionID(bytes: bytes) else { preconditionFailure("a session has 16 bytes") }
        return session
    }

    mutating func connect(_ number: Int, _ isUp: Bool) {
        workers[number].isConnected = isUp
        act(number, isUp ? .connected : .disconnected)
    }

    mutating func killWorker(_ number: Int) {
        guard workers[number].isAlive else { return }
        note("w\(number) dies")
        let worker = workers[number]
        worker.isAlive = false
        worker.runs = []
        worker.helps = []
        worker.frames = []
        worker.unconfirmed = []
        schedule(.startWorker(number), after: random.between(100...6000))
    }

    mutating func startWorker(_ number: Int) {
        guard !workers[number].isAlive else { return }
        let old = workers[number]
        let worker = WorkerProcess(hello: old.hello, session: makeSession())
        worker.run = old.run + 1
        worker.boot = random.below(3) == 0 ? random.below(1_000_000) : old.boot
        workers[number] = worker
        note("w\(number) starts")
        act(number, .connected)
    }

    /// SIGTERM: hand back what can go on elsewhere from its next step, stop the rest, leave.
    mutating func terminateWorker(_ number: Int) {
        let worker = workers[number]
        guard worker.isAlive, !worker.isLeaving else { return }
        note("w\(number) is asked to stop")
        worker.isLeaving = true
        worker.stopsAt = now + 1000
        worker.leavesBy = now + 2000
        act(number, .drain)
        for index in worker.runs.indices where !worker.runs[index].isResumable { stop(number, index) }
        for index in worker.helps.indices { worker.helps[index].isCancelled = true }
    }

    /// What follows a tick of a worker that leaves, or was told to.
    private mutating func considerLeaving(_ number: Int) {
        let worker = workers[number]
        if let drainedAt = worker.drainedAt, worker.frames.isEmpty || drainedAt + 6000 <= now {
            terminateWorker(number)
        }
        guard worker.isLeaving else { return }
        if worker.stopsAt <= now { for index in worker.runs.indices { stop(number, index) } }
        let isDone = worker.runs.isEmpty && worker.helps.isEmpty && worker.unconfirmed.isEmpty && worker.state.isEmpty
        guard isDone || worker.leavesBy <= now else { return }
        act(number, .goodbye)
        killWorker(number)
    }

    mutating func tickWorker(_ number: Int) {
        schedule(.workerTick(number), after: 250)
        let worker = workers[number]
        guard worker.isAlive, worker.frozenUntil <= now else { return }
        for run in worker.runs {
            act(
                number,
                .progress(run.assign.lease, step: run.step, totalSteps: steps(of: run.assign)))
        }
        act(number, .tick)
        considerLeaving(number)
    }

    mutating func arrive(_ envelope: Envelope, at number: Int, run: Int) {
        guard isRunning(number, run) else { return }
        guard workers[number].frozenUntil <= now else {
            return queue.push(.toWorker(number, run: run, envelope), at: workers[number].frozenUntil)
        }
        if isTracing { note("→ w\(number) \(envelope.message.short)") }
        act(number, .received(envelope))
    }

    mutating func act(_ number: Int, _ event: WorkerEvent) {
        let worker = workers[number]
        let clock = Instant(milliseconds: now + worker.boot)
        for effect in worker.state.handle(event, now: clock) { perform(effect, number, worker) }
    }

    private mutating func perform(_ effect: WorkerEffect, _ number: Int, _ worker: WorkerProcess) {
        switch effect {
        case .send(let message, let inReplyTo): say(message, number, inReplyTo: inReplyTo)
        case .start(let assign):
            note("w\(number) begins \(assign.lease.task) under fence \(assign.lease.fence)")
            worker.runs.append(StageRun(assign: assign, step: assign.checkpointStep, startedAt: now))
            schedule(.stage(number, run: worker.run, fence: assign.lease.fence), after: random.between(5...120))
        case .cancel(let lease, let reason):
            note("w\(number) stops \(lease.task) under fence \(lease.fence): \(reason)")
            if let index = worker.index(of: lease) { stop(number, index) }
            if let index = worker.helps.firstIndex(where: { $0.order.lease == lease }) {
                worker.helps[index].isCancelled = true
            }
        case .assist(let order): beginHelping(number, order)
        case .yield(let lease, let reason):
            note("w\(number) hands back \(lease.task) under fence \(lease.fence): \(reason)")
            if let index = worker.index(of: lease) { worker.runs[index].yields = true }
        case .drained: worker.drainedAt = now
        case .committed(let lease): worker.unconfirmed.remove(lease)
        case .release(let digests):
            for digest in digests { if let content = Content(digest) { worker.frames.remove(content) } }
        default: break
        }
    }

    mutating func say(_ message: Message, _ number: Int, inReplyTo: UInt64 = 0) {
        let worker = workers[number]
        worker.sequence += 1
        let whole = Envelope(
            session: worker.session, sequence: worker.sequence, brokerEpoch: worker.state.brokerEpoch,
            inReplyTo: inReplyTo, message: message)
        if isTracing { note("← w\(number) \(message.short)") }
        guard let envelope = pass(whole, from: .worker) else { return }
        transmit(.toBroker(envelope), number, .toBroker)
    }

    /// The stage stops at its next step. One that hangs does not: its process is told to exit.
    private mutating func stop(_ number: Int, _ index: Int) {
        let worker = workers[number]
        guard !worker.runs[index].isCancelled else { return }
        worker.runs[index].isCancelled = true
        if worker.runs[index].isHung { schedule(.killWorker(number, run: worker.run), after: 2000) }
    }
}
