import Testing
import Wire
import Work

@Suite("Recovery")
struct RecoveryTests {
    let worker = TestWorker(1, ["encoder", "denoiser", "decoder", "muxer"])

    @Test("a running task goes on across a restart: its worker beats, is greeted again and commits")
    func runningAcrossRestart() throws {
        let bench = BrokerBench()
        let job = bench.submit(single())
        let assign = try #require(bench.join(worker).assigns.first)
        bench.restart()
        #expect(bench.beat(worker, running: [assign]).map(\.message) == [.needHello])
        bench.deliver(.hello(worker.hello), from: worker.session)
        #expect(bench.beat(worker, running: [assign]).leaseLosts.isEmpty)
        #expect(bench.deliver(assign.complete([]), from: worker.session).committed == [assign.lease])
        #expect(bench.job(job)?.state == .done)
        #expect(bench.job(job)?.tasks[0].attempts == 1)
    }

    @Test("no lease runs out before one full lease time after the start")
    func grace() {
        let bench = BrokerBench()
        let job = bench.submit(single())
        bench.join(worker)
        bench.now.milliseconds += 14_000
        bench.restart()
        bench.pass(14_999)
        #expect(bench.job(job)?.tasks[0].state == .leased)
        bench.pass(1)
        #expect(bench.job(job)?.tasks[0].state == .ready)
    }

    @Test("blobs found at start that nothing refers to leave after an hour, unless somebody refers to them meanwhile")
    func leftovers() throws {
        let bench = BrokerBench()
        _ = bench.submit(single())
        bench.broker.noteStored([digest(1), digest(2)], now: bench.now)
        let assign = try #require(bench.join(worker).assigns.first)
        bench.deliver(assign.complete([output("x", 2)]), from: worker.session)
        bench.pass(3_599_999)
        #expect(bench.removals.isEmpty)
        bench.pass(1)
        #expect(bench.removals == [digest(1)])
    }

    @Test("fences rise across restarts")
    func fences() throws {
        let bench = BrokerBench()
        _ = bench.submit(single())
        let before = try #require(bench.join(worker).assigns.first)
        bench.restart()
        bench.pass(15_000)
        let after = try #require(bench.join(TestWorker(2, ["encoder"])).assigns.first)
        #expect(after.lease.fence > before.lease.fence)
    }

    @Test("a snapshot of the jobs and the two counters is the whole durable state")
    func snapshot() throws {
        let bench = BrokerBench()
        _ = bench.submit(single(key: "k"))
        _ = bench.submit(video())
        let assigns = bench.join(TestWorker(1, ["encoder"], slots: 2)).assigns
        bench.deliver(
            .checkpoint(CheckpointReport(lease: assigns[0].lease, step: 2, ref: blob(3))), from: worker.session)
        bench.deliver(assigns[1].complete([output("prompt_embeds", 4)]), from: worker.session)
        let records = bench.broker.records
        let restored = Records(
            jobs: records.jobs.values.shuffled(), lastFence: records.lastFence, lastOrdinal: records.lastOrdinal)
        #expect(restored == records)
        #expect(restored.refers(to: digest(3)) && restored.refers(to: digest(4)))
    }
}
