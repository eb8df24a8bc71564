import Failure
import Testing
import Wire
import Work

@Suite("Worker of several cells")
struct WorkerCellsTests {
    /// A worker that two brokers have welcomed, and what came of it.
    struct Bench {
        var worker: WorkerCells
        var now: UInt64 = 0

        init(slots: UInt32 = 1, cells: [String?] = [nil, nil], names: [String] = ["north", "south"]) {
            worker = WorkerCells(hello: TestWorker(1, ["encoder"], slots: slots).hello, cells: cells)
            for cell in names.indices {
                _ = event(.connected, cell)
                _ = receive(welcome(names[cell]), cell)
            }
        }

        func welcome(_ name: String) -> Message {
            .welcome(Welcome(beatMilliseconds: 1000, leaseMilliseconds: 15_000, storeLocations: [], cell: name))
        }

        mutating func event(_ event: WorkerEvent, _ cell: Int) -> [WorkerCells.Effect] {
            worker.handle(event, of: cell, now: Instant(milliseconds: now))
        }

        mutating func receive(_ message: Message, _ cell: Int, epoch: UInt64 = 1) -> [WorkerCells.Effect] {
            event(.received(Envelope(session: session(90), sequence: 1, brokerEpoch: epoch, message: message)), cell)
        }

        mutating func tick(at time: UInt64) -> [WorkerCells.Effect] {
            now = time
            return worker.handleForAll(.tick, now: Instant(milliseconds: time))
        }

        mutating func acknowledge(_ cell: Int) -> [WorkerCells.Effect] {
            receive(.beatAcknowledgement(BeatAcknowledgement(sequence: 1, drain: false, releases: [])), cell)
        }

        func assign(_ fence: UInt64) -> Assign {
            Assign(
                lease: Lease(task: TaskID(job: "job-\(fence)", name: "only"), fence: fence), attempt: 1,
                stage: "encoder", model: "m1", parameters: "{}", inputs: [], durableOutputs: true, checkpoint: nil,
                checkpointStep: 0, leaseMilliseconds: 15_000)
        }

        mutating func finish(_ fence: UInt64, _ cell: Int) -> [WorkerCells.Effect] {
            event(.finished(assign(fence).lease, outputs: [], elapsedMilliseconds: 1, notes: []), cell)
        }
    }

    @Test("a slot that one cell's task takes is withdrawn from the other at once, and an offer under way is refused")
    func withdrawn() {
        var bench = Bench()
        let effects = bench.receive(.assign(bench.assign(1)), 0)
        #expect(effects.contains(.init(cell: 0, effect: .start(bench.assign(1)))))
        #expect(effects.free(1) == [0])
        let late = bench.receive(.assign(bench.assign(2)), 1)
        let refusal = Refuse(lease: bench.assign(2).lease, code: "busy")
        #expect(late == [.init(cell: 1, effect: .send(.refuse(refusal), inReplyTo: 1))])
        #expect(bench.worker.freeSlots == 0)
    }

    @Test("the same task name and fence in two cells are two tasks")
    func namesakes() {
        var bench = Bench(slots: 2)
        #expect(bench.receive(.assign(bench.assign(1)), 0).starts == [0])
        #expect(bench.receive(.assign(bench.assign(1)), 1).starts == [1])
        _ = bench.finish(1, 0)
        #expect(!bench.worker.isEmpty && bench.worker.freeSlots == 1)
    }

    @Test("a slot that is given back is offered to the other cell first, and to its own once that one has declined")
    func asksInTurn() {
        var bench = Bench()
        _ = bench.receive(.assign(bench.assign(1)), 0)
        let freed = bench.finish(1, 0)
        #expect(freed.free(0) == [0], "not its own again")
        #expect(freed.free(1) == [1])
        let once = bench.acknowledge(1)
        #expect(once.free(1) == [1] && once.free(0).isEmpty, "its decision may follow the first answer")
        #expect(bench.acknowledge(1).free(0) == [1])
        #expect(bench.receive(.assign(bench.assign(2)), 0).starts == [0])
    }

    @Test("a cell that takes what it was asked about keeps the others out")
    func takes() {
        var bench = Bench()
        _ = bench.receive(.assign(bench.assign(1)), 0)
        _ = bench.finish(1, 0)
        _ = bench.acknowledge(1)
        let taken = bench.receive(.assign(bench.assign(2)), 1)
        #expect(taken.starts == [1] && taken.free(0).isEmpty)
        #expect(bench.acknowledge(1).free(0).isEmpty)
        #expect(bench.finish(2, 1).free(0) == [1], "now it is the first one's turn")
    }

    @Test("a cell that does not answer holds a slot back for a quarter of a second and once only")
    func silent() {
        var bench = Bench()
        _ = bench.receive(.assign(bench.assign(1)), 0)
        _ = bench.finish(1, 0)
        #expect(bench.tick(at: 200).free(0).isEmpty)
        #expect(bench.tick(at: WorkerCells.claimMilliseconds).free(0) == [1])
        _ = bench.receive(.assign(bench.assign(2)), 0)
        #expect(bench.finish(2, 0).free(0) == [1], "nobody waits for it again")
        _ = bench.acknowledge(1)
        _ = bench.receive(.assign(bench.assign(3)), 0)
        #expect(bench.finish(3, 0).free(0) == [0], "it is back")
    }

    @Test("a cell whose connection breaks while it is asked holds nothing back")
    func leaves() {
        var bench = Bench()
        _ = bench.receive(.assign(bench.assign(1)), 0)
        _ = bench.finish(1, 0)
        #expect(bench.event(.disconnected, 1).free(0) == [1])
    }

    @Test("of three cells the one that waited longest is asked first, and an idle one only passes the question on")
    func three() {
        var bench = Bench(cells: [nil, nil, nil], names: ["a", "b", "c"])
        _ = bench.receive(.assign(bench.assign(1)), 1)
        _ = bench.finish(1, 1)
        _ = bench.acknowledge(0)
        #expect(bench.acknowledge(0).free(2) == [1], "a has declined, c is next")
        _ = bench.receive(.assign(bench.assign(2)), 2)
        let freed = bench.finish(2, 2)
        #expect(freed.free(0) == [1] && freed.free(1).isEmpty)
        _ = bench.acknowledge(0)
        #expect(bench.acknowledge(0).free(1) == [1], "b was given a slot before c")
    }

    @Test("two brokers with one name are one ledger twice: the older gets nothing")
    func ambiguous() {
        var bench = Bench(names: ["north"])
        _ = bench.event(.connected, 1)
        let met = bench.receive(bench.welcome("north"), 1, epoch: 5)
        #expect(met.rejections == ["cell_ambiguous"])
        #expect(met.contains { $0.cell == 0 && $0.effect.isRejection })
        #expect(met.free(0) == [0] && met.free(1) == [1])
        #expect(bench.receive(.assign(bench.assign(1)), 0).starts.isEmpty)
    }

    @Test("a broker that is not the cell it was expected to be gets nothing")
    func mismatch() {
        var bench = Bench(cells: ["north", "south"], names: ["north"])
        _ = bench.event(.connected, 1)
        let met = bench.receive(bench.welcome("west"), 1)
        #expect(met.rejections == ["cell_mismatch"] && met.free(1) == [0])
        #expect(bench.receive(.assign(bench.assign(1)), 1).starts.isEmpty)
    }

    @Test("an order of one cell to drain empties the worker for all of them")
    func drains() {
        var bench = Bench(slots: 2)
        _ = bench.receive(.assign(bench.assign(1)), 0)
        _ = bench.receive(.assign(bench.assign(2)), 1)
        let order = BeatAcknowledgement(sequence: 1, drain: true, releases: [])
        let drained = bench.receive(.beatAcknowledgement(order), 0)
        #expect(Set(drained.yields) == [0, 1] && !drained.contains { $0.effect == .drained })
        for (fence, cell) in [(1, 0), (2, 1)] as [(UInt64, Int)] {
            _ = bench.finish(fence, cell)
            let over = bench.receive(.committed(bench.assign(fence).lease), cell)
            #expect(over.contains { $0.effect == .drained } == (cell == 1), "said once, when all is done")
        }
    }

    @Test("with one cell every effect is that of the machine of one broker")
    func one() {
        var cells = WorkerCells(hello: TestWorker(1, ["encoder"]).hello, cells: [nil])
        var alone = WorkerState(hello: TestWorker(1, ["encoder"]).hello)
        let bench = Bench()
        func from(_ message: Message) -> WorkerEvent {
            .received(Envelope(session: session(90), sequence: 1, brokerEpoch: 1, message: message))
        }
        let lease = bench.assign(1).lease
        let events: [WorkerEvent] = [
            .connected, from(bench.welcome("north")), from(.assign(bench.assign(1))), from(.assign(bench.assign(2))),
            .progress(lease, step: 1, totalSteps: 2), .tick,
            .finished(lease, outputs: [], elapsedMilliseconds: 3, notes: []),
            from(.beatAcknowledgement(BeatAcknowledgement(sequence: 1, drain: false, releases: [digest(1)]))),
            .tick, from(.committed(lease)), from(.assign(bench.assign(3))), .drain,
            .stopped(bench.assign(3).lease), .tick, .disconnected, .connected, .goodbye,
        ]
        for (index, event) in events.enumerated() {
            let now = Instant(milliseconds: UInt64(index) * 700)
            let expected = alone.handle(event, now: now)
            let done =
                index.isMultiple(of: 2) ? cells.handle(event, of: 0, now: now) : cells.handleForAll(event, now: now)
            #expect(done.map(\.effect) == expected, "\(event)")
        }
    }
}

extension [WorkerCells.Effect] {
    /// Free slots in the beats to one cell.
    func free(_ cell: Int) -> [UInt32] {
        filter { $0.cell == cell }.map(\.effect).beats.map(\.freeSlots)
    }

    /// Cells whose tasks begin.
    var starts: [Int] { compactMap { if case .start = $0.effect { $0.cell } else { nil } } }

    var yields: [Int] { compactMap { if case .yield = $0.effect { $0.cell } else { nil } } }

    var rejections: [String] {
        compactMap { if case .rejected(let error) = $0.effect { error.code } else { nil } }
    }
}

extension WorkerEffect {
    var isRejection: Bool { if case .rejected = self { true } else { false } }
}
