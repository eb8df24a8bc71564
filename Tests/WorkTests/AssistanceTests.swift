import Failure
import Testing
import Wire
import Work

@Suite("Idle workers help with another's task")
struct AssistanceTests {
    private let secret = digest(5).bytes
    private let location = Location.ipc(host: "h", socket: "data-1.sock")

    private func worker(
        _ number: UInt8, model: String = "m1", slots: UInt32 = 1, numerics: String = "cpu"
    ) -> TestWorker {
        var worker = TestWorker(number, ["decoder"], slots: slots, model: model, numerics: numerics)
        worker.hello.dataLocations = [location]
        return worker
    }

    /// A broker whose worker 1 has a task, and its lease.
    private func leading(besides others: [TestWorker]) throws -> (BrokerBench, Lease) {
        let bench = BrokerBench()
        _ = bench.join(worker(1))
        let sends = bench.deliver(.submit(single(stage: "decoder")), from: session(200))
        let assign = try #require(sends.assigns.first)
        _ = bench.beat(worker(1), running: [assign])
        for other in others { _ = bench.join(other) }
        return (bench, assign.lease)
    }

    private func ask(_ bench: BrokerBench, _ lease: Lease, count: UInt32, from number: UInt8 = 1) -> [Outgoing] {
        bench.deliver(
            .assistRequest(AssistRequest(lease: lease, count: count, secret: secret)), from: session(number))
    }

    @Test("the leader is offered the idle workers of its model, who are told where it is; nothing goes to disk")
    func offers() throws {
        let (bench, lease) = try leading(besides: [
            worker(2, numerics: "other"), worker(3), worker(4, model: "m2"), worker(5), TestWorker(6, ["encoder"]),
        ])
        let before = bench.entries.count
        let sends = ask(bench, lease, count: 3)
        #expect(sends.offers.map(\.count) == [3])
        #expect(sends.orders.map(\.session) == [session(3), session(5), session(2)], "equal arithmetic first")
        let order = try #require(sends.orders.first?.order)
        #expect(
            order
                == AssistOrder(
                    lease: lease, stage: "decoder", model: "m1", leader: "worker-1", locations: [location],
                    secret: secret))
        #expect(bench.entries.count == before)
        // They count as busy until a beat says otherwise.
        #expect(ask(bench, lease, count: 1).offers.map(\.count) == [0])
        #expect(bench.deliver(.submit(single(stage: "decoder", key: "b")), from: session(200)).assigns.isEmpty)
        #expect(bench.beat(worker(3), free: 0).assigns.isEmpty)
        #expect(bench.beat(worker(3)).assign(to: session(3)) != nil)
    }

    @Test("work that waits comes before help, and help that was not asked for is not given")
    func workFirst() throws {
        let (bench, lease) = try leading(besides: [])
        _ = bench.deliver(.submit(single(stage: "decoder", key: "b")), from: session(200))
        let joined = bench.join(worker(2)) + ask(bench, lease, count: 4)
        #expect(joined.assign(to: session(2)) != nil)
        #expect(joined.orders.isEmpty && joined.offers.map(\.count) == [0])
        _ = bench.join(worker(3))
        #expect(ask(bench, lease, count: 0).orders.isEmpty)
        let stranger = ask(bench, lease, count: 1, from: 3)
        #expect(stranger.leaseLosts == [lease] && stranger.orders.isEmpty)
        let old = Lease(task: lease.task, fence: lease.fence - 1)
        #expect(ask(bench, old, count: 1).leaseLosts == [old])
    }

    @Test("a worker that failed the task, is draining or gone is not sent")
    func unfit() throws {
        let (bench, lease) = try leading(besides: [worker(2), worker(3)])
        _ = bench.deliver(
            .drain(Drain(worker: "worker-2", stage: "", broker: false, resume: false)), from: session(200))
        _ = bench.deliver(.goodbye, from: session(3))
        #expect(ask(bench, lease, count: 4).offers.map(\.count) == [0])
    }

    @Test("more members than a task may have are not sent")
    func limit() throws {
        let (bench, lease) = try leading(besides: (2...40).map { worker($0) })
        #expect(ask(bench, lease, count: .max).orders.count == Limits.membersPerTask - 1)
    }

    // MARK: The worker's side

    private let lease = Lease(task: TaskID(job: "j", name: "decode"), fence: 7)

    private func order(stage: String = "decoder") -> AssistOrder {
        AssistOrder(lease: lease, stage: stage, model: "m1", leader: "l", locations: [location], secret: secret)
    }

    private struct Bench {
        var state: WorkerState
        var sequence: UInt64 = 0
        let now = Instant(milliseconds: 1000)

        init(slots: UInt32 = 1) {
            state = WorkerState(hello: TestWorker(1, ["decoder"], slots: slots).hello)
            _ = handle(.connected)
            _ = receive(
                .welcome(Welcome(beatMilliseconds: 1000, leaseMilliseconds: 15_000, storeLocations: [], cell: "")))
        }

        mutating func handle(_ event: WorkerEvent) -> [WorkerEffect] { state.handle(event, now: now) }

        mutating func receive(_ message: Message) -> [WorkerEffect] {
            sequence += 1
            return handle(
                .received(Envelope(session: session(90), sequence: sequence, brokerEpoch: 1, message: message)))
        }
    }

    @Test("helping takes a slot, of which the broker hears, and no task that it would miss")
    func slot() throws {
        var bench = Bench()
        let effects = bench.receive(.assist(order()))
        #expect(effects.contains(.assist(order())))
        let beat = try #require(effects.beats.last)
        #expect(beat.freeSlots == 0 && beat.running.isEmpty)
        #expect(!bench.receive(.assist(order())).contains(.assist(order())), "an order that comes twice")
        let other = Assign(
            lease: Lease(task: TaskID(job: "k", name: "decode"), fence: 8), attempt: 1, stage: "decoder", model: "m1",
            parameters: "{}", inputs: [], durableOutputs: true, checkpoint: nil, checkpointStep: 0,
            leaseMilliseconds: 1000)
        #expect(bench.receive(.assign(other)).contains { $0.refusal == "busy" })
        let freed = bench.handle(.stopped(lease))
        #expect(freed.beats.last?.freeSlots == 1)
        #expect(bench.receive(.assign(other)).contains(.start(other)))
    }

    @Test("a worker without a slot or of another stage stays away")
    func staysAway() {
        var bench = Bench()
        #expect(!bench.receive(.assist(order(stage: "encoder"))).contains { $0.isAssistance })
        _ = bench.receive(.assist(order()))
        var second = order()
        second.lease.task.job = "other"
        #expect(!bench.receive(.assist(second)).contains { $0.isAssistance })
    }

    @Test("a drain ends the help at once; the worker is empty when it has ended")
    func drain() {
        var bench = Bench()
        _ = bench.receive(.assist(order()))
        let effects = bench.handle(.drain)
        #expect(effects.contains(.cancel(lease, reason: "drain")))
        #expect(!effects.contains(.drained))
        #expect(bench.handle(.stopped(lease)).contains(.drained))
    }

    @Test("a task that died with its leader may come to who helped with it, once the help has ended")
    func leaderDied() {
        var bench = Bench(slots: 2)
        _ = bench.receive(.assist(order()))
        let again = Assign(
            lease: Lease(task: lease.task, fence: 9), attempt: 2, stage: "decoder", model: "m1", parameters: "{}",
            inputs: [], durableOutputs: true, checkpoint: nil, checkpointStep: 0, leaseMilliseconds: 1000)
        let effects = bench.receive(.assign(again))
        #expect(effects.contains(.cancel(lease, reason: "lease_lost")))
        #expect(effects.contains(.start(again)))
        #expect(bench.handle(.stopped(lease)).beats.last?.running.map(\.fence) == [9])
    }
}

extension [Outgoing] {
    fileprivate var offers: [AssistOffer] {
        compactMap { if case .assistOffered(let offer) = $0.message { offer } else { nil } }
    }

    fileprivate var orders: [(session: SessionID, order: AssistOrder)] {
        compactMap { if case .assist(let order) = $0.message { ($0.session, order) } else { nil } }
    }
}

extension WorkerEffect {
    fileprivate var isAssistance: Bool { if case .assist = self { true } else { false } }

    fileprivate var refusal: String? { if case .send(.refuse(let refuse), _) = self { refuse.code } else { nil } }
}
