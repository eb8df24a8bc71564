import Testing
import Wire
import Work

/// Brokers that share workers, each machine the real one, joined by wires with delays.
@Suite("Cells that share workers")
struct CellSharingTests {
    /// One worker, several brokers, and everything that is under way between them.
    private final class Hall {
        private enum Item {
            case toBroker(Int, Message)
            case toWorker(Int, Message, UInt64)
            case done(Int, Assign)
            case tick
        }

        let brokers: [BrokerBench]
        private(set) var worker: WorkerCells
        /// The cell of every task that began, in order.
        private(set) var begun: [Int] = []
        private(set) var refusals = 0
        private(set) var running = 0
        private(set) var mostRunning = 0
        private let session = WorkTests.session(1)
        private var items: [(at: UInt64, number: Int, item: Item)] = []
        private var number = 0
        private var now: UInt64 = 0
        private var sequence: UInt64 = 0
        private var random: UInt64
        private let taskMilliseconds: UInt64

        init(cells: Int, slots: UInt32, seed: UInt64, taskMilliseconds: UInt64 = 40) {
            brokers = (0..<cells).map { _ in BrokerBench() }
            worker = WorkerCells(
                hello: TestWorker(1, ["encoder"], slots: slots).hello, cells: Array(repeating: nil, count: cells))
            random = seed &* 2 &+ 1
            self.taskMilliseconds = taskMilliseconds
            for cell in 0..<cells {
                perform(worker.handle(.connected, of: cell, now: Instant(milliseconds: 0)))
            }
            put(.tick, after: 100)
        }

        /// Jobs of one task each, as many as `counts` says for each cell.
        func submit(_ counts: [Int]) {
            for (cell, count) in counts.enumerated() {
                for _ in 0..<count {
                    send(brokers[cell].deliver(.submit(single()), from: WorkTests.session(200)), cell)
                }
            }
        }

        func run(until end: UInt64) {
            while let next = items.min(by: { ($0.at, $0.number) < ($1.at, $1.number) }), next.at <= end {
                items.removeAll { $0.number == next.number }
                for broker in brokers {
                    broker.now.milliseconds += next.at - now
                    broker.now.unixMilliseconds += next.at - now
                }
                now = next.at
                handle(next.item)
            }
        }

        private func handle(_ item: Item) {
            let instant = Instant(milliseconds: now)
            switch item {
            case .toBroker(let cell, let message):
                sequence += 1
                if case .refuse = message { refusals += 1 }
                send(brokers[cell].deliver(message, from: session, sequence: sequence), cell)
            case .toWorker(let cell, let message, let epoch):
                let envelope = Envelope(
                    session: WorkTests.session(90), sequence: 1, brokerEpoch: epoch, message: message)
                perform(worker.handle(.received(envelope), of: cell, now: instant))
            case .done(let cell, let assign):
                running -= 1
                let finished = WorkerEvent.finished(
                    assign.lease, outputs: [], elapsedMilliseconds: taskMilliseconds, notes: [])
                perform(worker.handle(finished, of: cell, now: instant))
            case .tick:
                for (cell, broker) in brokers.enumerated() { send(broker.handle(.tick), cell) }
                perform(worker.handleForAll(.tick, now: instant))
                put(.tick, after: 100)
            }
        }

        private func perform(_ effects: [WorkerCells.Effect]) {
            for one in effects {
                switch one.effect {
                case .send(let message, _): put(.toBroker(one.cell, message), after: delay(one.cell))
                case .start(let assign):
                    begun.append(one.cell)
                    running += 1
                    mostRunning = max(mostRunning, running)
                    put(.done(one.cell, assign), after: taskMilliseconds)
                default: break
                }
            }
        }

        private func send(_ sends: [Outgoing], _ cell: Int) {
            for outgoing in sends where outgoing.session == session {
                put(.toWorker(cell, outgoing.message, 1), after: delay(cell))
            }
        }

        /// The first broker is near, the others are far; one wire keeps the order.
        private var arrivals: [UInt64: UInt64] = [:]
        private func delay(_ cell: Int) -> UInt64 {
            random = random &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
            return (cell == 0 ? 0 : 3) + (random >> 33) % 3
        }

        private func put(_ item: Item, after delay: UInt64) {
            number += 1
            var at = now + delay
            // A connection keeps the order of its messages.
            let wire: UInt64? =
                switch item {
                case .toBroker(let cell, _): UInt64(cell) * 2
                case .toWorker(let cell, _, _): UInt64(cell) * 2 + 1
                case .done, .tick: nil
                }
            if let wire {
                at = max(at, arrivals[wire] ?? 0)
                arrivals[wire] = at
            }
            items.append((at, number, item))
        }

        var finished: [Int] { brokers.map { $0.broker.records.jobs.values.count { $0.state == .done } } }

        var attempts: [UInt32] {
            brokers.flatMap { $0.broker.records.jobs.values.flatMap(\.tasks).map(\.attempts) }
        }
    }

    @Test(
        "two cells that always have work get the slot in turn, and no refusal costs an attempt",
        arguments: 1...20 as ClosedRange<UInt64>)
    func inTurn(seed: UInt64) {
        let hall = Hall(cells: 2, slots: 1, seed: seed)
        hall.run(until: 50)
        hall.submit([30, 30])
        hall.run(until: 20_000)
        #expect(hall.finished == [30, 30])
        #expect(hall.mostRunning == 1)
        // Refused offers come back after their delay, which may let a turn or two pass.
        var longest = 0
        var streak = 0
        for (place, cell) in hall.begun.prefix(40).enumerated() {
            streak = place > 0 && hall.begun[place - 1] == cell ? streak + 1 : 1
            longest = max(longest, streak)
        }
        #expect(longest <= 2, "\(hall.begun)")
        #expect(hall.refusals <= 2, "\(hall.refusals) refusals in 60 tasks")
        #expect(hall.attempts.allSatisfy { $0 == 1 })
    }

    @Test("an idle cell costs the others little, and gets the next slot when it has a job")
    func idle() {
        let hall = Hall(cells: 3, slots: 1, seed: 3)
        hall.run(until: 50)
        hall.submit([40, 0, 0])
        hall.run(until: 1000)
        let before = hall.begun.count
        // The first may be offered as the slot goes, and be refused.
        hall.submit([0, 0, 2])
        hall.run(until: 1400)
        #expect(before >= 10, "\(before) tasks of 40 ms in 950 ms")
        #expect(hall.begun[before...].prefix(3).contains(2), "\(hall.begun)")
    }

    @Test("a worker of three slots runs three tasks, whoever they are from", arguments: 1...10 as ClosedRange<UInt64>)
    func slots(seed: UInt64) {
        let hall = Hall(cells: 2, slots: 3, seed: seed)
        hall.run(until: 50)
        hall.submit([40, 40])
        hall.run(until: 20_000)
        #expect(hall.finished == [40, 40])
        #expect(hall.mostRunning == 3)
        #expect(hall.attempts.allSatisfy { $0 == 1 })
    }
}
