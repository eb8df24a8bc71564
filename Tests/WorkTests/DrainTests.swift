import Failure
import Testing
import Wire
import Work

@Suite("Drain")
struct DrainTests {
    let first = TestWorker(1, ["denoiser"])
    let second = TestWorker(2, ["denoiser"])
    let client = session(200)

    private func yielded(_ assign: Assign) -> Message { .refuse(Refuse(lease: assign.lease, code: "yielded")) }

    @Test("a lease that is handed back goes to another worker at once, from its checkpoint and with the same attempt")
    func handBack() throws {
        let bench = BrokerBench()
        let job = bench.submit(single(stage: "denoiser"))
        let assign = try #require(bench.join(first).assigns.first)
        bench.join(second)
        bench.deliver(.checkpoint(CheckpointReport(lease: assign.lease, step: 9, ref: blob(9))), from: first.session)
        let sends = bench.deliver(yielded(assign), from: first.session)
        #expect(sends.leaseLosts == [assign.lease])
        let again = try #require(sends.assign(to: second.session))
        #expect(again.checkpoint == blob(9) && again.checkpointStep == 9)
        #expect(again.attempt == 1)
        let task = try #require(bench.job(job)?.tasks[0])
        #expect(task.crashes == 0 && task.failures == 0 && task.excludedWorkers.isEmpty)
        #expect(bench.deliver(yielded(assign), from: first.session).leaseLosts == [assign.lease], "repeated: answered")
        #expect(bench.job(job)?.tasks[0].fence == again.lease.fence)
    }

    @Test("a drained worker is told in every beat's answer and gets nothing more; others do")
    func worker() throws {
        let bench = BrokerBench()
        bench.join(first)
        let answer = bench.deliver(.drain(Drain(worker: "worker-1")), from: client)
        #expect(answer.map(\.message) == [.draining(Draining(workers: ["worker-1"], broker: false))])
        _ = bench.submit(single(stage: "denoiser"))
        for _ in 0..<2 {
            let sends = bench.beat(first)
            #expect(sends.assigns.isEmpty)
            #expect(sends.acknowledgements.map(\.drain) == [true])
        }
        #expect(bench.join(second).assigns.count == 1)
        guard case .cluster(let cluster) = bench.deliver(.clusterQuery, from: client).first?.message else {
            Issue.record("no cluster status")
            return
        }
        #expect(cluster.workers.map(\.isDraining) == [true, false])
    }

    @Test("a stage is drained as a whole; a name that nobody has is an error")
    func stage() {
        let bench = BrokerBench()
        bench.join(first)
        bench.join(second)
        bench.join(TestWorker(3, ["encoder"]))
        let all = bench.deliver(.drain(Drain(stage: "denoiser")), from: client)
        #expect(all.map(\.message) == [.draining(Draining(workers: ["worker-1", "worker-2"], broker: false))])
        #expect(
            bench.deliver(.drain(Drain(worker: "worker-9")), from: client).errors.map(\.code) == ["worker_not_found"])
        #expect(bench.deliver(.drain(Drain()), from: client).errors.map(\.code) == ["worker_not_found"])
    }

    @Test("a draining broker refuses new jobs, replays known keys, finishes what it has, and can be told to go on")
    func broker() throws {
        let bench = BrokerBench()
        let job = bench.submit(single(stage: "denoiser", key: "k"))
        bench.deliver(.drain(Drain(broker: true)), from: client)
        let refused = bench.deliver(.submit(single(stage: "denoiser", key: "other")), from: client)
        #expect(refused.errors.map(\.code) == ["draining"])
        let replayed = bench.deliver(.submit(single(stage: "denoiser", key: "k")), from: client)
        #expect(replayed.accepted == [Accepted(job: job, replayed: true)])
        let assign = try #require(bench.join(first).assigns.first)
        bench.deliver(assign.complete([]), from: first.session)
        #expect(bench.job(job)?.state == .done)
        bench.deliver(.drain(Drain(broker: true, resume: true)), from: client)
        #expect(bench.deliver(.submit(single(key: "other")), from: client).accepted.count == 1)
    }
}
