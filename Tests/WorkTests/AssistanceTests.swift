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
        // They count as busy, even by a beat that was under way, until one says otherwise that knows of it.
        #expect(ask(bench, lease, count: 1).offers.map(\.count) == [0])
        #expect(bench.deliver(.submit(single(stage: "decoder", key: "b")), from: session(200)).assigns.isEmpty)
        #expect(bench.beat(worker(3)).assigns.isEmpty)
        #expect(bench.beat(worker(3), free: 0, assisted: lease.fence).assigns.isEmpty)
        #expect(bench.beat(worker(3), assisted: lease.fence).assign(to: session(3)) != nil)
    }

    @Test("an order to help that was lost on the way keeps the slot for a while only")
    func lostOrder() throws {
        let (bench, lease) = try leading(besides: [worker(3)])
        #expect(ask(bench, lease, count: 1).orders.count == 1)
        #expect(bench.deliver(.submit(single(stage: "decoder", key: "b")), from: session(200)).assigns.isEmpty)
        _ = bench.pass(bench.broker.configuration.lostAssignmentMilliseconds - 10)
        #expect(bench.beat(worker(3)).assigns.isEmpty)
        _ = bench.pass(10)
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

    // MARK: Followers

    /// A broker where worker 1 decodes a video of which nothing is muxed yet, and the lease.
    private func decoding(besides others: [TestWorker]) throws -> (BrokerBench, Lease) {
        let bench = BrokerBench()
        _ = bench.join(TestWorker(9, ["encoder", "denoiser"]))
        var leader = TestWorker(1, ["decoder"])
        leader.hello.dataLocations = [location]
        _ = bench.join(leader)
        var sends = bench.deliver(.submit(video()), from: session(200))
        for (name, number) in [("encode", 9), ("denoise", 9)] as [(String, UInt8)] {
            let assign = try #require(sends.assign(to: session(number)))
            let done = assign.complete([output(videoOutput[name] ?? "", Int(number))])
            sends = bench.deliver(done, from: session(number))
            sends += bench.beat(TestWorker(number, ["encoder", "denoiser"]))
        }
        let assign = try #require(sends.assign(to: session(1)))
        _ = bench.beat(leader, running: [assign])
        for other in others { _ = bench.join(other) }
        return (bench, assign.lease)
    }

    private func askToFollow(_ bench: BrokerBench, _ lease: Lease, from number: UInt8 = 1) -> [Outgoing] {
        bench.deliver(
            .assistRequest(AssistRequest(lease: lease, count: 1, secret: secret, follows: true)), from: session(number))
    }

    @Test("one worker of the next stage is sent to follow, with that task's parameters and without a slot less")
    func follows() throws {
        let (bench, lease) = try decoding(besides: [TestWorker(2, ["muxer"]), TestWorker(3, ["muxer"], model: "m2")])
        let before = bench.entries.count
        let sends = askToFollow(bench, lease)
        #expect(sends.offers == [AssistOffer(lease: lease, count: 1)])
        #expect(sends.orders.map(\.session) == [session(2)])
        #expect(
            sends.orders.first?.order
                == AssistOrder(
                    lease: lease, stage: "muxer", model: "m1", leader: "worker-1", locations: [location],
                    secret: secret, follows: true, parameters: #"{"width":4}"#))
        #expect(bench.entries.count == before, "nothing goes to disk")
        let assigns = bench.deliver(.submit(single(stage: "muxer", key: "b")), from: session(200)).assigns
        #expect(assigns.count == 1, "it still has its slot")
    }

    @Test("the task goes to who followed it, before those whose turn it is, and to another where that one is gone")
    func preferred() throws {
        for isGone in [false, true] {
            let (bench, lease) = try decoding(besides: [TestWorker(2, ["muxer"]), TestWorker(3, ["muxer"])])
            let follower = try #require(askToFollow(bench, lease).orders.first?.session)
            #expect(follower == session(2))
            // Now it would be the other's turn.
            let assign = try #require(
                bench.deliver(.submit(single(stage: "muxer", key: "b")), from: session(200)).assign(to: follower))
            _ = bench.deliver(assign.complete([output("video", 7)]), from: follower)
            _ = bench.beat(TestWorker(2, ["muxer"]))
            if isGone { _ = bench.deliver(.goodbye, from: follower) }
            let done = Message.complete(
                Complete(lease: lease, outputs: [output("frames", 8)], elapsedMilliseconds: 5, notes: []))
            let muxing = bench.deliver(done, from: session(1)).assigns.first
            #expect(muxing?.lease.task.name == "mux")
            #expect(bench.broker.footprint.tasks > 0)
            let holder = muxing.flatMap { bench.job($0.lease.task.job)?.task("mux")?.session }
            #expect(holder == (isGone ? session(3) : follower))
        }
    }

    @Test("nobody is sent where no task comes next, nobody does it, or the lease is another's")
    func nobodyFollows() throws {
        let (bench, lease) = try leading(besides: [worker(2)])
        #expect(askToFollow(bench, lease).offers.map(\.count) == [0])
        let (other, decode) = try decoding(besides: [TestWorker(3, ["muxer"], model: "m2")])
        #expect(askToFollow(other, decode).offers.map(\.count) == [0])
        #expect(askToFollow(other, decode, from: 3).leaseLosts == [decode])
        _ = other.join(TestWorker(4, ["muxer"]))
        _ = other.deliver(
            .drain(Drain(worker: "worker-4", stage: "", broker: false, resume: false)), from: session(200))
        #expect(askToFollow(other, decode).offers.map(\.count) == [0])
    }

    @Test("nothing is remembered of a follower when its job is over")
    func forgotten() throws {
        let (bench, lease) = try decoding(besides: [TestWorker(2, ["muxer"])])
        _ = askToFollow(bench, lease)
        _ = bench.deliver(.cancel(job: lease.task.job), from: session(200))
        _ = bench.deliver(.refuse(Refuse(lease: lease, code: "cancelled")), from: session(1))
        #expect(bench.broker.footprint.tasks == 0)
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
        #expect(beat.freeSlots == 0 && beat.running.isEmpty && beat.assistedFence == lease.fence)
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

    private func following(_ number: UInt64) -> AssistOrder {
        var order = order()
        order.lease = Lease(task: TaskID(job: "followed-\(number)", name: "decode"), fence: 20 + number)
        order.follows = true
        order.parameters = "{}"
        return order
    }

    @Test("following takes no slot, even of a worker that has none left, and is bounded")
    func followsBesideItsSlots() throws {
        var bench = Bench()
        _ = bench.receive(.assist(order()))
        for number in 0..<UInt64(Limits.followedPerWorker) {
            #expect(bench.receive(.assist(following(number))).contains(.assist(following(number))))
        }
        #expect(!bench.receive(.assist(following(99))).contains { $0.isAssistance })
        #expect(bench.handle(.stopped(lease)).beats.last?.freeSlots == 1)
        #expect(bench.handle(.stopped(following(0).lease)).beats.last?.freeSlots == 1)
        #expect(bench.receive(.assist(following(99))).contains { $0.isAssistance })
    }

    @Test("a drain ends the following too, and a worker that drains follows nobody")
    func drainedFollower() {
        var bench = Bench()
        _ = bench.receive(.assist(following(1)))
        let effects = bench.handle(.drain)
        #expect(effects.contains(.cancel(following(1).lease, reason: "drain")))
        #expect(!effects.contains(.drained))
        #expect(!bench.receive(.assist(following(2))).contains { $0.isAssistance })
        #expect(bench.handle(.stopped(following(1).lease)).contains(.drained))
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
