import Testing
import Wire
import Work

@Suite struct PreviewTests {
    private let client = session(200), other = session(201)

    /// A bench with one job that `worker` denoises, whose assignment is returned.
    private func running(_ bench: BrokerBench, on worker: TestWorker) throws -> Assign {
        bench.join(worker)
        return try #require(bench.deliver(.submit(single()), from: client).assigns.first)
    }

    private func preview(_ lease: Lease, step: UInt32 = 3) -> Message {
        .preview(Preview(lease: lease, step: step, totalSteps: 50, width: 8, height: 8, jpeg: [1, 2, 3]))
    }

    private func pictures(_ sends: [Outgoing]) -> [SessionID] {
        sends.compactMap { if case .preview = $0.message { $0.session } else { nil } }
    }

    @Test("nobody looks: no beat says so, and a preview goes nowhere")
    func unwatched() throws {
        let bench = BrokerBench(), worker = TestWorker(1, ["encoder"])
        let assign = try running(bench, on: worker)
        #expect(bench.beat(worker, running: [assign], step: 1).acknowledgements.map(\.watched) == [[]])
        #expect(bench.deliver(preview(assign.lease), from: worker.session).isEmpty)
    }

    @Test("whoever looks is told to the worker by beats and gets the previews; others do not")
    func watched() throws {
        let bench = BrokerBench(), worker = TestWorker(1, ["encoder"])
        let assign = try running(bench, on: worker)
        let job = assign.lease.task.job
        #expect(bench.deliver(.previewWatch(job: job), from: client).isEmpty)
        #expect(bench.entries.count == 2, "nothing of it is durable: the job and its lease")
        #expect(bench.beat(worker, running: [assign], step: 1).acknowledgements.map(\.watched) == [[assign.lease]])
        #expect(pictures(bench.deliver(preview(assign.lease), from: worker.session)) == [client])
        bench.deliver(.previewWatch(job: job), from: other)
        #expect(pictures(bench.deliver(preview(assign.lease), from: worker.session)) == [client, other])
        #expect(bench.entries.count == 2)
    }

    @Test("who stops saying so is forgotten, and so is who cannot be reached")
    func expiry() throws {
        let bench = BrokerBench(), worker = TestWorker(1, ["encoder"])
        let assign = try running(bench, on: worker)
        bench.deliver(.previewWatch(job: assign.lease.task.job), from: client)
        bench.deliver(.previewWatch(job: assign.lease.task.job), from: other)
        bench.handle(.unreachable(other))
        for _ in 0..<3 {
            bench.pass(5000)
            bench.beat(worker, running: [assign], step: 2)
            bench.deliver(.previewWatch(job: assign.lease.task.job), from: client)
        }
        #expect(pictures(bench.deliver(preview(assign.lease), from: worker.session)) == [client])
        bench.pass(6000)
        bench.beat(worker, running: [assign], step: 3)
        bench.pass(7000)
        #expect(bench.beat(worker, running: [assign], step: 4).acknowledgements.map(\.watched) == [[]])
        #expect(bench.deliver(preview(assign.lease), from: worker.session).isEmpty)
    }

    @Test("previews of an old lease or of another session are not shown")
    func foreign() throws {
        let bench = BrokerBench(), worker = TestWorker(1, ["encoder"])
        let assign = try running(bench, on: worker)
        bench.deliver(.previewWatch(job: assign.lease.task.job), from: client)
        let old = Lease(task: assign.lease.task, fence: assign.lease.fence - 1)
        #expect(bench.deliver(preview(old), from: worker.session).isEmpty)
        #expect(bench.deliver(preview(assign.lease), from: session(9)).isEmpty)
    }

    @Test("nobody can look at a job that does not exist")
    func unknownJob() {
        let errors = BrokerBench().deliver(.previewWatch(job: "nothing"), from: client).errors
        #expect(errors.map(\.code) == ["job_not_found"])
    }

    @Test("an assignment names the arithmetic of the tasks before it, and whether one was continued elsewhere")
    func origins() throws {
        let bench = BrokerBench()
        let encoder = TestWorker(1, ["encoder"], numerics: "cpu/avx2/2")
        let first = TestWorker(2, ["denoiser"], numerics: "cpu/avx2/2")
        let second = TestWorker(3, ["denoiser", "decoder"], numerics: "cpu/avx512/2")
        bench.join(encoder)
        let encode = try #require(bench.deliver(.submit(video()), from: client).assigns.first)
        #expect(encode.origins.isEmpty)
        bench.join(first)
        let denoise = try #require(
            bench.deliver(encode.complete([output("prompt_embeds", 1)]), from: encoder.session).assigns.first)
        #expect(denoise.origins == [TaskOrigin(task: "encode", numerics: "cpu/avx2/2")])
        bench.deliver(
            .checkpoint(CheckpointReport(lease: denoise.lease, step: 2, ref: blob(3))), from: first.session)
        bench.deliver(.goodbye, from: first.session)
        let again = try #require(bench.join(second).assigns.first)
        let done = bench.deliver(again.complete([output("latents", 2)]), from: second.session)
        let decode = try #require((done + bench.beat(second)).assigns.first)
        #expect(
            decode.origins == [
                TaskOrigin(task: "encode", numerics: "cpu/avx2/2"),
                TaskOrigin(task: "denoise", numerics: "cpu/avx512/2", isMixed: true),
            ])
    }

    @Test("what a worker chose by itself reaches the tasks after it, and is forgotten when the task is done anew")
    func manner() throws {
        let bench = BrokerBench(), decoder = TestWorker(1, ["encoder", "denoiser", "decoder"])
        bench.join(decoder)
        let encode = try #require(bench.deliver(.submit(video()), from: client).assigns.first)
        func next(_ assign: Assign, _ name: String, manner: String = "") throws -> Assign {
            let complete = Complete(
                lease: assign.lease, outputs: [output(name, 1)], elapsedMilliseconds: 5, notes: [], manner: manner)
            let done = bench.deliver(.complete(complete), from: decoder.session)
            return try #require((done + bench.beat(decoder)).assigns.first)
        }
        let denoise = try next(encode, "prompt_embeds")
        let decode = try next(denoise, "latents", manner: "as it liked")
        #expect(decode.origins.map(\.manner) == ["", "as it liked"])
        let job = encode.lease.task.job
        #expect(bench.job(job)?.task("denoise")?.manner == "as it liked")
        #expect(bench.job(job)?.task("encode")?.manner == nil, "nothing is nothing in the ledger")
    }

    @Test("a worker is told of those of its leases that it computes, and its beats tell how many previews it made")
    func workerSide() {
        let tests = WorkerTests()
        var worker = tests.ready()
        let assign = tests.assign(1)
        _ = worker.handle(tests.envelope(.assign(assign)), now: tests.at(1))
        func hear(_ watched: [Lease]) -> [WorkerEffect] {
            let answer = BeatAcknowledgement(sequence: 1, drain: false, releases: [], watched: watched)
            return worker.handle(tests.envelope(.beatAcknowledgement(answer)), now: tests.at(2))
        }
        #expect(hear([assign.lease, Lease(task: assign.lease.task, fence: 99)]) == [.watched([assign.lease])])
        #expect(hear([]).isEmpty)
        worker.previews = 4
        #expect(worker.handle(.tick, now: tests.at(5000)).beats.map(\.previews) == [4])
    }
}
