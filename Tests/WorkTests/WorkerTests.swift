import Failure
import Testing
import Wire
import Work

@Suite("Worker")
struct WorkerTests {
    let broker = session(99)
    let welcome = Welcome(beatMilliseconds: 1000, leaseMilliseconds: 15_000, storeLocations: [])

    func envelope(_ message: Message, epoch: UInt64 = 1, sequence: UInt64 = 5) -> WorkerEvent {
        .received(Envelope(session: broker, sequence: sequence, brokerEpoch: epoch, message: message))
    }

    func at(_ milliseconds: UInt64) -> Instant { Instant(milliseconds: milliseconds) }

    func ready(slots: UInt32 = 1) -> WorkerState {
        var worker = WorkerState(hello: TestWorker(1, ["encoder"], slots: slots).hello)
        _ = worker.handle(.connected, now: at(0))
        _ = worker.handle(envelope(.welcome(welcome)), now: at(0))
        return worker
    }

    func assign(_ fence: UInt64, job: String = "j", stage: String = "encoder") -> Assign {
        Assign(
            lease: Lease(task: TaskID(job: job, name: "t"), fence: fence), attempt: 1, stage: stage, model: "m1",
            parameters: "{}", inputs: [], durableOutputs: true, checkpoint: nil, checkpointStep: 0,
            leaseMilliseconds: 15_000)
    }

    @Test("connects with HELLO, repeats it until WELCOME, then beats at once and at the interval")
    func greeting() {
        let hello = TestWorker(1, ["encoder"]).hello
        var worker = WorkerState(hello: hello)
        #expect(worker.handle(.tick, now: at(0)).isEmpty)
        #expect(worker.handle(.connected, now: at(10)) == [.send(.hello(hello), inReplyTo: 0)])
        #expect(worker.handle(.tick, now: at(500)).isEmpty)
        #expect(worker.handle(.tick, now: at(1010)) == [.send(.hello(hello), inReplyTo: 0)])
        let effects = worker.handle(envelope(.welcome(welcome)), now: at(1020))
        #expect(effects.prefix(2) == [.brokerEpoch(1), .welcomed(welcome)])
        #expect(effects.beats.map(\.freeSlots) == [1])
        #expect(worker.handle(.tick, now: at(2019)).isEmpty)
        #expect(worker.handle(.tick, now: at(2020)).beats.count == 1)
    }

    @Test("takes a task into a free slot, ignores the same ASSIGN again, and refuses when full")
    func slots() {
        var worker = ready()
        #expect(worker.handle(envelope(.assign(assign(1))), now: at(1)) == [.start(assign(1))])
        #expect(worker.handle(envelope(.assign(assign(1))), now: at(2)).isEmpty)
        let refusal = Refuse(lease: assign(2, job: "k").lease, code: "busy")
        #expect(
            worker.handle(envelope(.assign(assign(2, job: "k")), sequence: 8), now: at(3))
                == [.send(.refuse(refusal), inReplyTo: 8)])
        #expect(worker.freeSlots == 0)
    }

    @Test("a task that is assigned once more after its result was COMMITTED is stopped at the next word about it")
    func assignedAgain() {
        var worker = ready()
        let task = assign(1)
        _ = worker.handle(envelope(.assign(task)), now: at(1))
        _ = worker.handle(.finished(task.lease, outputs: [], elapsedMilliseconds: 1, notes: []), now: at(2))
        #expect(worker.handle(envelope(.committed(task.lease)), now: at(3)) == [.committed(task.lease)])
        #expect(worker.handle(envelope(.assign(task)), now: at(4)) == [.start(task)])
        #expect(
            worker.handle(envelope(.committed(task.lease)), now: at(5)) == [
                .cancel(task.lease, reason: "already_done")
            ])
        _ = worker.handle(.stopped(task.lease), now: at(6))
        #expect(worker.freeSlots == 1 && worker.isEmpty)
    }

    @Test("refuses a stage or model it does not have")
    func unfit() {
        var worker = ready()
        let effects = worker.handle(envelope(.assign(assign(1, stage: "decoder"))), now: at(1))
        #expect(effects == [.send(.refuse(Refuse(lease: assign(1).lease, code: "unfit")), inReplyTo: 5)])
    }

    @Test("repeats COMPLETE before every beat until COMMITTED, and offers the slot at once")
    func complete() {
        var worker = ready()
        _ = worker.handle(envelope(.assign(assign(1))), now: at(1))
        let done = Message.complete(
            Complete(lease: assign(1).lease, outputs: [], elapsedMilliseconds: 7, notes: ["n"]))
        let effects = worker.handle(
            .finished(assign(1).lease, outputs: [], elapsedMilliseconds: 7, notes: ["n"]), now: at(50))
        #expect(effects.first == .send(done, inReplyTo: 0))
        #expect(effects.beats.map(\.freeSlots) == [1])
        #expect(effects.beats[0].running.map(\.fence) == [1])
        #expect(worker.handle(.tick, now: at(1050)).first == .send(done, inReplyTo: 0))
        #expect(worker.handle(envelope(.committed(assign(1).lease)), now: at(1060)) == [.committed(assign(1).lease)])
        #expect(worker.handle(.tick, now: at(2050)).beats.map(\.running) == [[]])
    }

    @Test("repeats FAIL until LEASE_LOST answers it")
    func fail() {
        var worker = ready()
        _ = worker.handle(envelope(.assign(assign(1))), now: at(1))
        let failure = Failure("broken", "it broke", remedy: "Mend it.", retry: .otherWorker)
        let effects = worker.handle(.failed(assign(1).lease, failure, missingInputs: ["x"]), now: at(2))
        let expected = Fail(
            lease: assign(1).lease, code: "broken", message: "it broke Mend it.", retry: .otherWorker,
            missingInputs: ["x"])
        #expect(effects.first == .send(.fail(expected), inReplyTo: 0))
        #expect(worker.handle(.tick, now: at(1002)).first == .send(.fail(expected), inReplyTo: 0))
        _ = worker.handle(envelope(.leaseLost(assign(1).lease)), now: at(1003))
        #expect(worker.handle(.tick, now: at(2003)).count == 1)
    }

    @Test("repeats the newest CHECKPOINT until it is confirmed")
    func checkpoint() {
        var worker = ready()
        _ = worker.handle(envelope(.assign(assign(1))), now: at(1))
        let lease = assign(1).lease
        for step in 1...2 as ClosedRange<UInt32> {
            let report = CheckpointReport(lease: lease, step: step, ref: blob(Int(step)))
            #expect(
                worker.handle(.checkpointStored(lease, step: step, ref: blob(Int(step))), now: at(2))
                    == [.send(.checkpoint(report), inReplyTo: 0)])
        }
        let newest = CheckpointReport(lease: lease, step: 2, ref: blob(2))
        _ = worker.handle(envelope(.checkpointCommitted(lease: lease, step: 1)), now: at(3))
        #expect(worker.handle(.tick, now: at(1002)).first == .send(.checkpoint(newest), inReplyTo: 0))
        let effects = worker.handle(envelope(.checkpointCommitted(lease: lease, step: 2)), now: at(1003))
        #expect(effects == [.checkpointCommitted(lease, step: 2)])
        #expect(worker.handle(.tick, now: at(2003)).count == 1)
    }

    @Test("a lost or revoked lease is cancelled, and its slot stays taken until the stage has stopped")
    func cancel() {
        var worker = ready()
        let lease = assign(1).lease
        _ = worker.handle(envelope(.assign(assign(1))), now: at(1))
        #expect(
            worker.handle(envelope(.revoke(Revoke(lease: lease, reason: "cancelled"))), now: at(2))
                == [.cancel(lease, reason: "cancelled")])
        #expect(worker.handle(envelope(.leaseLost(lease)), now: at(3)).isEmpty)
        #expect(worker.freeSlots == 0)
        let late = worker.handle(.finished(lease, outputs: [], elapsedMilliseconds: 1, notes: []), now: at(4))
        #expect(late.count == 1 && late.beats.map(\.freeSlots) == [1])
        #expect(worker.handle(.stopped(lease), now: at(5)).isEmpty)
    }

    @Test("a newer fence of the same task cancels the older; an older one that comes late is refused")
    func fences() {
        var worker = ready(slots: 2)
        _ = worker.handle(envelope(.assign(assign(4))), now: at(1))
        let effects = worker.handle(envelope(.assign(assign(6))), now: at(2))
        #expect(effects == [.cancel(assign(4).lease, reason: "lease_lost"), .start(assign(6))])
        let refusal = Refuse(lease: assign(5).lease, code: "stale")
        #expect(worker.handle(envelope(.assign(assign(5))), now: at(3)) == [.send(.refuse(refusal), inReplyTo: 5)])
    }

    @Test("a new broker epoch means HELLO again, keeping what runs; messages of an older epoch are ignored")
    func epoch() {
        var worker = ready()
        _ = worker.handle(envelope(.assign(assign(1))), now: at(1))
        let effects = worker.handle(envelope(.needHello, epoch: 2), now: at(2))
        #expect(effects.first == .brokerEpoch(2))
        #expect(effects.count { if case .send(.hello, _) = $0 { true } else { false } } == 1)
        #expect(worker.handle(envelope(.leaseLost(assign(1).lease), epoch: 1), now: at(3)).isEmpty)
        let beats = worker.handle(envelope(.welcome(welcome), epoch: 2), now: at(4)).beats
        #expect(beats.first?.running.map(\.fence) == [1])
    }

    @Test("after two thirds of a lease without a word it is isolated, one lease later it stops computing")
    func isolation() {
        var worker = ready(slots: 2)
        _ = worker.handle(envelope(.assign(assign(1))), now: at(0))
        _ = worker.handle(envelope(.assign(assign(2, job: "k"))), now: at(0))
        _ = worker.handle(
            .finished(assign(2, job: "k").lease, outputs: [], elapsedMilliseconds: 1, notes: []), now: at(5))
        _ = worker.handle(.tick, now: at(10_000))
        #expect(!worker.isIsolated)
        _ = worker.handle(.tick, now: at(10_001))
        #expect(worker.isIsolated)
        #expect(!worker.handle(.tick, now: at(25_000)).contains(.cancel(assign(1).lease, reason: "isolated")))
        #expect(worker.handle(.tick, now: at(25_001)).contains(.cancel(assign(1).lease, reason: "isolated")))
        let beat = worker.handle(
            envelope(.beatAcknowledgement(.init(sequence: 1, drain: false, releases: []))), now: at(25_100))
        #expect(beat.isEmpty && !worker.isIsolated)
        #expect(worker.handle(.tick, now: at(26_100)).beats.first?.running.map(\.fence) == [2])
    }

    @Test("the beat says how long ago progress was made")
    func progress() {
        var worker = ready()
        _ = worker.handle(envelope(.assign(assign(1))), now: at(0))
        _ = worker.handle(.progress(assign(1).lease, step: 3, totalSteps: 9), now: at(400))
        _ = worker.handle(.progress(assign(1).lease, step: 3, totalSteps: 9), now: at(700))
        let running = worker.handle(.tick, now: at(1000)).beats.first?.running.first
        #expect(running?.step == 3 && running?.totalSteps == 9 && running?.millisecondsSinceProgress == 600)
    }

    @Test("drain takes nothing new and reports once when all is confirmed")
    func drain() {
        var worker = ready(slots: 2)
        _ = worker.handle(envelope(.assign(assign(1))), now: at(0))
        #expect(worker.handle(.drain, now: at(1)).beats.map(\.freeSlots) == [0])
        let refusal = Refuse(lease: assign(2, job: "k").lease, code: "busy")
        #expect(
            worker.handle(envelope(.assign(assign(2, job: "k"))), now: at(2)) == [.send(.refuse(refusal), inReplyTo: 5)]
        )
        _ = worker.handle(.finished(assign(1).lease, outputs: [], elapsedMilliseconds: 1, notes: []), now: at(3))
        let effects = worker.handle(envelope(.committed(assign(1).lease)), now: at(4))
        #expect(effects == [.committed(assign(1).lease), .drained])
        #expect(!worker.handle(.tick, now: at(5000)).contains(.drained))
    }

    @Test("a lease that is wanted back goes on until the stage stops, and goes back once its checkpoint is confirmed")
    func yield() {
        var worker = ready()
        let lease = assign(1).lease
        _ = worker.handle(envelope(.assign(assign(1))), now: at(0))
        let order = Revoke(lease: lease, reason: "preempted", yields: true)
        #expect(worker.handle(envelope(.revoke(order)), now: at(1)) == [.yield(lease, reason: "preempted")])
        #expect(worker.handle(envelope(.revoke(order)), now: at(2)).isEmpty)
        #expect(worker.handle(.tick, now: at(1001)).beats.first?.running.map(\.fence) == [1])
        let report = CheckpointReport(lease: lease, step: 7, ref: blob(7))
        #expect(
            worker.handle(.checkpointStored(lease, step: 7, ref: blob(7)), now: at(1002))
                == [.send(.checkpoint(report), inReplyTo: 0)])
        let refusal = WorkerEffect.send(.refuse(Refuse(lease: lease, code: "yielded")), inReplyTo: 0)
        let stopped = worker.handle(.stopped(lease), now: at(1003))
        #expect(stopped.first == .send(.checkpoint(report), inReplyTo: 0) && !stopped.contains(refusal))
        #expect(stopped.beats.first?.freeSlots == 1 && stopped.beats.first?.running.count == 1)
        let confirmed = worker.handle(envelope(.checkpointCommitted(lease: lease, step: 7)), now: at(1004))
        #expect(confirmed == [.checkpointCommitted(lease, step: 7), refusal])
        #expect(worker.handle(.tick, now: at(2003)).first == refusal, "repeated until it is answered")
        _ = worker.handle(envelope(.leaseLost(lease)), now: at(2004))
        #expect(worker.isEmpty)
    }

    @Test("a task that ends before it reaches another step counts although its lease was wanted back")
    func finishedInsteadOfYielding() {
        var worker = ready()
        let lease = assign(1).lease
        _ = worker.handle(envelope(.assign(assign(1))), now: at(0))
        _ = worker.handle(
            envelope(.revoke(Revoke(lease: lease, reason: "preempted", yields: true))), now: at(1))
        let effects = worker.handle(.finished(lease, outputs: [], elapsedMilliseconds: 7, notes: []), now: at(2))
        let done = Complete(lease: lease, outputs: [], elapsedMilliseconds: 7, notes: [])
        #expect(effects.first == .send(.complete(done), inReplyTo: 0))
    }

    @Test("a cancelled lease stops at once even while it is being handed back")
    func cancelledWhileYielding() {
        var worker = ready()
        let lease = assign(1).lease
        _ = worker.handle(envelope(.assign(assign(1))), now: at(0))
        _ = worker.handle(
            envelope(.revoke(Revoke(lease: lease, reason: "preempted", yields: true))), now: at(1))
        let effects = worker.handle(envelope(.revoke(Revoke(lease: lease, reason: "cancelled"))), now: at(2))
        #expect(effects == [.cancel(lease, reason: "cancelled")])
        #expect(worker.handle(.stopped(lease), now: at(3)).beats.first?.running == [])
        #expect(worker.isEmpty)
    }

    @Test("the broker's order to drain in a beat's answer hands back what runs and then reports that all is done")
    func drainedByBroker() {
        var worker = ready(slots: 2)
        let lease = assign(1).lease
        _ = worker.handle(envelope(.assign(assign(1))), now: at(0))
        let order = Message.beatAcknowledgement(BeatAcknowledgement(sequence: 1, drain: true, releases: []))
        #expect(worker.handle(envelope(order), now: at(1)) == [.yield(lease, reason: "drain")])
        #expect(worker.handle(envelope(order), now: at(2)).isEmpty)
        #expect(worker.freeSlots == 0)
        #expect(!worker.handle(.stopped(lease), now: at(3)).contains(.drained))
        #expect(worker.handle(envelope(.leaseLost(lease)), now: at(4)) == [.drained])
    }

    @Test("goodbye cancels what runs and is the last word")
    func goodbye() {
        var worker = ready()
        _ = worker.handle(envelope(.assign(assign(1))), now: at(0))
        let effects = worker.handle(.goodbye, now: at(1))
        #expect(effects == [.cancel(assign(1).lease, reason: "shutdown"), .send(.goodbye, inReplyTo: 0)])
        #expect(worker.handle(.connected, now: at(2)).isEmpty)
        #expect(
            !worker.handle(.stopped(assign(1).lease), now: at(3)).contains {
                if case .send = $0 { true } else { false }
            })
    }

    @Test("a refused HELLO reaches the operator; nothing is sent while disconnected")
    func rejected() {
        var worker = WorkerState(hello: TestWorker(1, ["encoder"]).hello)
        _ = worker.handle(.connected, now: at(0))
        let error = ErrorReply(code: "version_unsupported", message: "too new")
        #expect(worker.handle(envelope(.error(error)), now: at(1)).last == .rejected(error))
        _ = worker.handle(.disconnected, now: at(2))
        #expect(worker.handle(.tick, now: at(60_000)).isEmpty)
    }
}

extension [WorkerEffect] {
    var beats: [Beat] { compactMap { if case .send(.beat(let beat), _) = $0 { beat } else { nil } } }
}
