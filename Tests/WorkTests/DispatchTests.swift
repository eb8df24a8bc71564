import FoundationEssentials
import Testing
import Wire
import Work

@Suite("Dispatch")
struct DispatchTests {
    @Test("two jobs go to two idle workers, one each")
    func spread() {
        var seen: Set<SessionID> = []
        let bench = BrokerBench()
        for number in 1...2 as ClosedRange<UInt8> { bench.join(TestWorker(number, ["encoder"], slots: 2)) }
        for _ in 0..<2 {
            for outgoing in bench.deliver(.submit(single()), from: session(200)) {
                if case .assign = outgoing.message { seen.insert(outgoing.session) }
            }
        }
        #expect(seen == [session(1), session(2)])
    }

    @Test("workers with the same load take turns")
    func turns() {
        let bench = BrokerBench()
        let workers = (1...3 as ClosedRange<UInt8>).map { TestWorker($0, ["encoder"]) }
        for worker in workers { bench.join(worker) }
        var order: [SessionID] = []
        for _ in 0..<6 {
            let sends = bench.deliver(.submit(single()), from: session(200))
            for outgoing in sends {
                guard case .assign(let assign) = outgoing.message else { continue }
                order.append(outgoing.session)
                bench.deliver(assign.complete([]), from: outgoing.session)
            }
            for worker in workers { bench.beat(worker) }
        }
        #expect(order == (0..<6).map { workers[$0 % 3].session })
    }

    @Test("never more tasks than slots, and never more than the newest beat offers")
    func slots() {
        let bench = BrokerBench()
        let worker = TestWorker(1, ["encoder"], slots: 3)
        for _ in 0..<6 { _ = bench.submit(single()) }
        bench.deliver(.hello(worker.hello), from: worker.session)
        let first = bench.beat(worker, free: 2).assigns
        #expect(first.count == 2)
        #expect(bench.beat(worker, free: 2).assigns.isEmpty)
        #expect(bench.beat(worker, running: first, free: 1).assigns.count == 1)
        #expect(bench.beat(worker, running: first, free: 3).assigns.isEmpty)
    }

    @Test("of the free workers the one goes first that has the weights as the task wants them")
    func affinity() {
        let bench = BrokerBench()
        let workers = (1...3 as ClosedRange<UInt8>).map { TestWorker($0, ["encoder"]) }
        for worker in workers { bench.join(worker) }
        func beat(_ worker: TestWorker, warm: [String], running: [Assign] = []) {
            let listed = running.map {
                RunningTask(
                    task: $0.lease.task, fence: $0.lease.fence, step: 0, totalSteps: 0, millisecondsSinceProgress: 0)
            }
            bench.deliver(
                .beat(Beat(freeSlots: running.isEmpty ? 1 : 0, running: listed, storeBytes: 0, warm: warm)),
                from: worker.session)
        }
        beat(workers[1], warm: ["float32"])
        beat(workers[2], warm: ["float32", "float32+style"])
        let styled = bench.deliver(.submit(single(affinity: "float32+style")), from: session(200))
        let first = styled.assign(to: workers[2].session)
        #expect(first != nil)
        // The worker that has it is busy: another free one takes the task rather than letting it wait.
        beat(workers[2], warm: ["float32", "float32+style"], running: first.map { [$0] } ?? [])
        let next = bench.deliver(.submit(single(affinity: "float32+style")), from: session(200))
        #expect(next.assigns.count == 1 && next.assign(to: workers[2].session) == nil)
    }

    @Test("weights that nobody has ready, or that are no longer ready, decide nothing")
    func lostAffinity() {
        let bench = BrokerBench()
        let workers = (1...2 as ClosedRange<UInt8>).map { TestWorker($0, ["encoder"]) }
        for worker in workers { bench.join(worker) }
        bench.deliver(.beat(Beat(freeSlots: 1, running: [], storeBytes: 0, warm: ["a"])), from: workers[1].session)
        bench.deliver(.beat(Beat(freeSlots: 1, running: [], storeBytes: 0, warm: [])), from: workers[1].session)
        #expect(bench.deliver(.submit(single(affinity: "a")), from: session(200)).assign(to: workers[0].session) != nil)
    }

    @Test("the ledger keeps what a task wants, and reads entries of before there was such a thing")
    func affinityInTheLedger() throws {
        let encoder = JSONEncoder()
        encoder.outputFormatting = .sortedKeys
        let wanting = single(affinity: "float32+style").tasks[0], plain = single().tasks[0]
        for task in [wanting, plain] {
            #expect(try JSONDecoder().decode(TaskSpecification.self, from: encoder.encode(task)) == task)
        }
        #expect(!String(decoding: try encoder.encode(plain), as: UTF8.self).contains("affinity"))
    }

    @Test("higher priority first, then the older job")
    func order() {
        let bench = BrokerBench()
        let plain = bench.submit(single())
        let later = bench.submit(single())
        let urgent = bench.submit(single(priority: 1))
        let worker = TestWorker(1, ["encoder"], slots: 3)
        #expect(bench.join(worker).assigns.map(\.lease.task.job) == [urgent, plain, later])
    }

    @Test("jobs under way are finished before new ones are begun")
    func finishFirst() {
        let bench = BrokerBench()
        let encoder = TestWorker(1, ["encoder"])
        let begun = bench.submit(video())
        let assign = bench.join(encoder).assigns[0]
        bench.deliver(assign.complete([output("prompt_embeds", 1)]), from: encoder.session)
        bench.deliver(.goodbye, from: encoder.session)
        _ = bench.submit(single(stage: "encoder"))
        let everything = TestWorker(2, ["encoder", "denoiser"])
        #expect(bench.join(everything).assigns.map(\.lease.task) == [TaskID(job: begun, name: "denoise")])
    }

    @Test("a resumed task prefers the arithmetic that made its checkpoint")
    func numerics() {
        let bench = BrokerBench()
        _ = bench.submit(single())
        let maker = TestWorker(1, ["encoder"], numerics: "a")
        let assign = bench.join(maker).assigns[0]
        bench.deliver(.checkpoint(CheckpointReport(lease: assign.lease, step: 1, ref: blob(1))), from: maker.session)
        let stranger = TestWorker(2, ["encoder"], numerics: "b")
        let twin = TestWorker(3, ["encoder"], numerics: "a")
        bench.join(stranger)
        bench.join(twin)
        #expect(bench.deliver(.goodbye, from: maker.session).assign(to: twin.session) != nil)
    }
}
