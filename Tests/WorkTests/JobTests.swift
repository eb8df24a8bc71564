import Failure
import Testing
import Wire
import Work

@Suite("Jobs")
struct JobTests {
    let worker = TestWorker(1, ["encoder", "denoiser", "decoder", "muxer"])
    let other = TestWorker(2, ["encoder", "denoiser", "decoder", "muxer"])
    let client = session(200)

    /// Runs `bench`'s only job up to the assignment of `task` and returns that.
    func advance(_ bench: BrokerBench, to task: String, on worker: TestWorker) throws -> Assign {
        var sends = bench.join(worker)
        for number in 1... {
            let assign = try #require(sends.assign(to: worker.session))
            if assign.lease.task.name == task { return assign }
            let name = assign.lease.task.name
            sends = bench.deliver(assign.complete([output(videoOutput[name]!, number)]), from: worker.session)
            sends += bench.beat(worker)
        }
        throw Failure("unreachable", "the loop above has no end")
    }

    @Test("tasks follow their inputs, and the job is DONE with the last of them")
    func graph() throws {
        let bench = BrokerBench()
        let job = bench.submit(video())
        #expect(bench.job(job)?.tasks.map(\.state) == [.ready, .blocked, .blocked, .blocked])
        let mux = try advance(bench, to: "mux", on: worker)
        #expect(mux.inputs == [output("frames", 3)])
        bench.deliver(mux.complete([output("video", 4)]), from: worker.session)
        #expect(bench.job(job)?.state == .done)
        let status = try #require(bench.status(job))
        #expect(status.outputs.map(\.name) == ["encode.prompt_embeds", "denoise.latents", "mux.video"])
        #expect(status.finishedUnixMilliseconds == bench.now.unixMilliseconds)
    }

    @Test("a failure of class never ends the job at once, with code and message")
    func never() throws {
        let bench = BrokerBench()
        let job = bench.submit(video())
        let assign = try advance(bench, to: "denoise", on: worker)
        bench.deliver(assign.fail(.never, code: "not_finite"), from: worker.session)
        let status = try #require(bench.status(job))
        #expect(status.state == .failed)
        #expect(status.errorCode == "not_finite")
        #expect(status.tasks.map(\.state) == [.done, .dead, .cancelled, .cancelled])
    }

    @Test("retryable failures are retried with a delay; the third ends the job FAILED")
    func retryable() throws {
        let bench = BrokerBench()
        let job = bench.submit(single())
        var assign = try #require(bench.join(worker).assigns.first)
        for attempt in 2...3 as ClosedRange<UInt32> {
            bench.deliver(assign.fail(.sameWorker), from: worker.session)
            #expect(bench.beat(worker).assigns.isEmpty)
            bench.pass(2000)
            let next = bench.broker.records.jobs[job]?.tasks[0]
            #expect(next?.attempts == attempt)
            assign.lease.fence = next?.fence ?? 0
            bench.beat(worker, running: [assign])
        }
        bench.deliver(assign.fail(.sameWorker), from: worker.session)
        #expect(bench.job(job)?.state == .failed)
        #expect(bench.job(job)?.errorCode == "broken")
    }

    @Test("class otherWorker goes to another capable worker, and back only when there is none")
    func otherWorker() throws {
        let bench = BrokerBench()
        let job = bench.submit(single())
        let assign = try #require(bench.join(worker).assigns.first)
        bench.deliver(assign.fail(.otherWorker), from: worker.session)
        bench.join(other)
        bench.beat(worker)
        let sends = bench.pass(2000)
        let second = try #require(sends.assign(to: other.session))
        bench.deliver(second.fail(.otherWorker), from: other.session)
        bench.beat(worker)
        bench.beat(other)
        #expect(bench.pass(5000).assigns.count == 1)
        #expect(bench.job(job)?.tasks[0].attempts == 3)
    }

    @Test("a task that loses three workers is DEAD with the evidence")
    func poison() throws {
        let bench = BrokerBench()
        let job = bench.submit(single())
        for number in 1...3 as ClosedRange<UInt8> {
            #expect(bench.join(TestWorker(number, ["encoder"])).assigns.count == 1)
            bench.pass(15_000)
        }
        let record = try #require(bench.job(job))
        #expect(record.state == .dead)
        #expect(record.errorCode == "worker_lost")
        #expect(record.errorMessage.contains("worker-3"))
    }

    @Test("endless churn ends DEAD at the attempt limit")
    func attempts() throws {
        let bench = BrokerBench { $0.attemptLimit = 4 }
        let job = bench.submit(single())
        bench.join(worker)
        for _ in 0..<20 where bench.job(job)?.state.isTerminal == false {
            guard let task = bench.job(job)?.tasks[0], task.state == .leased else {
                bench.pass(1000)
                bench.beat(worker)
                continue
            }
            let lease = Lease(task: TaskID(job: job, name: "only"), fence: task.fence)
            let listed = RunningTask(
                task: lease.task, fence: lease.fence, step: 0, totalSteps: 0, millisecondsSinceProgress: 0)
            bench.deliver(.beat(Beat(freeSlots: 0, running: [listed], storeBytes: 0)), from: worker.session)
            bench.pass(2000)
            bench.beat(worker, free: 0)
            bench.beat(worker, free: 0)
            bench.beat(worker)
        }
        #expect(bench.job(job)?.state == .dead)
        #expect(bench.job(job)?.errorCode == "attempts_exhausted")
    }

    @Test("frames that no worker serves any more are decoded again, and the muxer is not to blame")
    func missingInputs() throws {
        let bench = BrokerBench()
        let job = bench.submit(video())
        let mux = try advance(bench, to: "mux", on: worker)
        let sends = bench.deliver(
            mux.fail(.otherWorker, code: "input_missing", missing: ["frames"]), from: worker.session)
        #expect(sends.leaseLosts == [mux.lease])
        #expect(bench.job(job)?.tasks.map(\.state) == [.done, .done, .leased, .blocked])
        #expect(bench.job(job)?.tasks[3].failures == 0)
        let decode = try #require(sends.assigns.first)
        #expect(decode.lease.task.name == "decode" && decode.inputs == [output("latents", 2)])
    }

    @Test("durable inputs out of reach are retried elsewhere before they are made again")
    func missingDurableInputs() throws {
        let bench = BrokerBench()
        let job = bench.submit(video())
        var decode = try advance(bench, to: "decode", on: worker)
        for _ in 0..<2 {
            bench.deliver(decode.fail(.otherWorker, code: "input_missing", missing: ["latents"]), from: worker.session)
            #expect(bench.job(job)?.task("denoise")?.state == .done)
            bench.beat(worker)
            decode = try #require(bench.pass(5000).assigns.first)
            bench.beat(worker, running: [decode])
        }
        bench.deliver(decode.fail(.otherWorker, code: "input_missing", missing: ["latents"]), from: worker.session)
        #expect(bench.job(job)?.task("denoise")?.state == .ready)
        #expect(bench.job(job)?.task("decode")?.state == .blocked)
        #expect(bench.job(job)?.state == .running)
    }

    @Test("when the worker that holds the frames dies, they are decoded again before anybody asks")
    func lostHolder() throws {
        let bench = BrokerBench()
        let job = bench.submit(video())
        let decoder = TestWorker(5, ["decoder"])
        let rest = TestWorker(6, ["encoder", "denoiser"])
        let decode: Assign
        do {
            _ = try advance(bench, to: "denoise", on: rest)
            let denoise = try #require(bench.job(job)?.task("denoise"))
            let lease = Lease(task: TaskID(job: job, name: "denoise"), fence: denoise.fence)
            bench.deliver(
                .complete(Complete(lease: lease, outputs: [output("latents", 2)], elapsedMilliseconds: 5, notes: [])),
                from: rest.session)
            decode = try #require(bench.join(decoder).assigns.first)
        }
        bench.deliver(decode.complete([output("frames", 3)]), from: decoder.session)
        #expect(bench.job(job)?.task("mux")?.state == .ready)
        bench.deliver(.goodbye, from: decoder.session)
        #expect(bench.job(job)?.task("decode")?.state == .ready)
        #expect(bench.job(job)?.task("mux")?.state == .blocked)
    }

    @Test("a result without an output that a later task reads fails the job with output_missing")
    func outputMissing() throws {
        let bench = BrokerBench()
        let job = bench.submit(video())
        let encode = try advance(bench, to: "encode", on: worker)
        bench.deliver(encode.complete([output("other", 1)]), from: worker.session)
        #expect(bench.job(job)?.state == .failed)
        #expect(bench.job(job)?.errorCode == "output_missing")
    }

    @Test("checkpoints only grow, are confirmed again when repeated, and start the next attempt")
    func checkpoints() throws {
        let bench = BrokerBench()
        let job = bench.submit(single())
        let assign = try #require(bench.join(worker).assigns.first)
        func report(_ bench: BrokerBench, _ step: UInt32) -> [Message] {
            let message = Message.checkpoint(CheckpointReport(lease: assign.lease, step: step, ref: blob(Int(step))))
            return bench.deliver(message, from: worker.session).map(\.message)
        }
        #expect(report(bench, 3) == [.checkpointCommitted(lease: assign.lease, step: 3)])
        #expect(report(bench, 2) == [.checkpointCommitted(lease: assign.lease, step: 3)])
        #expect(report(bench, 3) == [.checkpointCommitted(lease: assign.lease, step: 3)])
        #expect(report(bench, 4) == [.checkpointCommitted(lease: assign.lease, step: 4)])
        #expect(bench.entries.count { $0.kind == "checkpoint_committed" } == 2)
        bench.pass(15_000)
        let again = try #require(bench.join(TestWorker(3, ["encoder"], numerics: "gpu")).assigns.first)
        #expect(again.checkpoint == blob(4) && again.checkpointStep == 4)
        #expect(again.earlierCheckpoint == blob(3) && again.earlierCheckpointStep == 3)
        #expect(bench.status(job)?.tasks[0].notes.contains { $0.contains("not bit-identical") } == true)
    }

    @Test("a checkpoint behind the newest two leaves the store after a while, unless another job has the same bytes")
    func checkpointRemoval() throws {
        let bench = BrokerBench()
        _ = bench.submit(single())
        _ = bench.submit(single())
        let first = try #require(bench.join(worker).assigns.first)
        let second = try #require(bench.join(other).assigns.first)
        bench.deliver(.checkpoint(CheckpointReport(lease: first.lease, step: 1, ref: blob(1))), from: worker.session)
        bench.deliver(.checkpoint(CheckpointReport(lease: second.lease, step: 1, ref: blob(1))), from: other.session)
        for step in [2, 3] {
            let report = CheckpointReport(lease: first.lease, step: UInt32(step), ref: blob(step))
            bench.deliver(.checkpoint(report), from: worker.session)
        }
        bench.pass(60_000)
        #expect(bench.removals.isEmpty)
        bench.deliver(.hello(other.hello), from: other.session)
        _ = bench.deliver(.cancel(job: bench.broker.records.order[1]), from: client)
        bench.pass(30_000)
        #expect(bench.removals.isEmpty)
        bench.pass(30_000)
        #expect(bench.removals.contains(digest(1)))
        #expect(!bench.removals.contains(digest(2)), "one may turn out to be damaged")
    }

    @Test("frames are released to their worker once the muxer is done, and told three times")
    func releases() throws {
        let bench = BrokerBench()
        _ = bench.submit(video())
        let mux = try advance(bench, to: "mux", on: worker)
        #expect(bench.beat(worker, running: [mux]).acknowledgements.first?.releases == [])
        bench.deliver(mux.complete([output("video", 4)]), from: worker.session)
        for _ in 0..<3 {
            #expect(bench.beat(worker).acknowledgements.first?.releases == [digest(3)])
        }
        #expect(bench.beat(worker).acknowledgements.first?.releases == [])
    }

    @Test("cancel ends a job once, revokes what runs, and a later COMPLETE is LEASE_LOST")
    func cancel() throws {
        let bench = BrokerBench()
        let job = bench.submit(single())
        let assign = try #require(bench.join(worker).assigns.first)
        let sends = bench.deliver(.cancel(job: job), from: client)
        #expect(sends.revokes == [Revoke(lease: assign.lease, reason: "cancelled")])
        #expect(sends.contains { $0.message == .cancelOutcome(CancelOutcome(job: job, state: .cancelled)) })
        #expect(bench.deliver(assign.complete([]), from: worker.session).leaseLosts == [assign.lease])
        #expect(bench.job(job)?.state == .cancelled)
    }

    @Test("cancel after completion reports DONE: one terminal state, and the client is told which")
    func cancelTooLate() throws {
        let bench = BrokerBench()
        let job = bench.submit(single())
        let assign = try #require(bench.join(worker).assigns.first)
        bench.deliver(assign.complete([]), from: worker.session)
        let sends = bench.deliver(.cancel(job: job), from: client)
        #expect(sends.map(\.message) == [.cancelOutcome(CancelOutcome(job: job, state: .done))])
        #expect(bench.deliver(.cancel(job: "nobody"), from: client).errors.map(\.code) == ["job_not_found"])
    }

    @Test("finished jobs are forgotten after the retention time, with their blobs and their key")
    func retention() throws {
        let bench = BrokerBench { $0.retentionMilliseconds = 3_600_000 }
        let job = bench.submit(single(key: "k"))
        let assign = try #require(bench.join(worker).assigns.first)
        bench.deliver(assign.complete([output("x", 5)]), from: worker.session)
        bench.pass(3_599_000)
        #expect(bench.job(job) != nil)
        bench.pass(360_000)
        #expect(bench.job(job) == nil)
        #expect(bench.broker.records.keys.isEmpty)
        bench.pass(60_000)
        #expect(bench.removals == [digest(5)])
    }
}
