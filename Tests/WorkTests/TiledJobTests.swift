import Failure
import Testing
import Wire
import Work

/// encode → denoise → four tiles, each in the memory of its decoder → mux.
private func tiled(tiles: Int = 4, key: String = "") -> Submit {
    func task(
        _ name: String, _ stage: String, from producers: [(String, String)], durable: Bool = true
    )
        -> TaskSpecification
    {
        let inputs = producers.map { TaskInput(name: "\($0.0).\($0.1)", source: .task(name: $0.0, output: $0.1)) }
        return TaskSpecification(
            name: name, stage: stage, model: "m1", parameters: "{\"pixels\":4}", inputs: inputs, durableOutputs: durable
        )
    }
    let names = (0..<tiles).map { "decode.0.\($0)" }
    return Submit(
        idempotencyKey: key, requestDigest: digest(7), tenant: "t", priority: 0, specification: "{}",
        tasks: [
            task("encode", "encoder", from: []), task("denoise", "denoiser", from: [("encode", "prompt_embeds")]),
        ] + names.reversed().map { task($0, "decoder", from: [("denoise", "latents")], durable: false) } + [
            task("mux", "muxer", from: names.map { ($0, "tiles") })
        ])
}

@Suite("A video in tiles")
struct TiledJobTests {
    private let front = TestWorker(20, ["encoder", "denoiser"])
    private let muxer = TestWorker(21, ["muxer"])
    private let decoders = [TestWorker(1, ["decoder"]), TestWorker(2, ["decoder"])]

    /// Submits a job and does what comes before the tiles.
    private func denoised(_ bench: BrokerBench, tiles: Int = 4, key: String = "") throws -> String {
        let job = bench.submit(tiled(tiles: tiles, key: key))
        for (name, result) in [("encode", "prompt_embeds"), ("denoise", "latents")] {
            let task = try #require(bench.job(job)?.task(name))
            try #require(task.state == .leased, "\(name) is \(task.state)")
            let lease = Lease(task: TaskID(job: job, name: name), fence: task.fence)
            bench.deliver(
                .complete(Complete(lease: lease, outputs: [output(result, 1)], elapsedMilliseconds: 5, notes: [])),
                from: front.session)
            bench.beat(front)
        }
        return job
    }

    /// Of the tiles in their order, and of the muxer.
    private func states(_ bench: BrokerBench, _ job: String) -> [TaskState] {
        let tasks = bench.job(job)?.tasks.dropFirst(2) ?? []
        return tasks.dropLast().reversed().map(\.state) + tasks.suffix(1).map(\.state)
    }

    private func complete(_ bench: BrokerBench, _ assign: Assign, _ number: Int, on worker: TestWorker) -> [Assign] {
        let done = bench.deliver(assign.complete([output("tiles", number)]), from: worker.session).assigns
        return done + bench.beat(worker).assigns
    }

    @Test("every decoder takes tiles, and what waits for the muxer is one clip, not so many tiles")
    func shared() throws {
        let bench = BrokerBench { $0.backlogPerSlot = 1 }
        bench.join(front)
        bench.join(muxer)
        let job = try denoised(bench)
        for decoder in decoders { bench.join(decoder) }
        #expect(states(bench, job) == [.leased, .leased, .ready, .ready, .blocked])
        let held = try decoders.map { decoder in
            try #require(bench.job(job)?.tasks.first { $0.session == decoder.session && $0.state == .leased })
        }
        #expect(Set(held.map(\.specification.name)) == ["decode.0.0", "decode.0.1"])
    }

    @Test("the tile that a decoder dies with is decoded again, and no other")
    func died() throws {
        let bench = BrokerBench()
        bench.join(front)
        bench.join(muxer)
        let job = try denoised(bench, tiles: 3)
        let first = try #require(bench.join(decoders[0]).assigns.first)
        let second = try #require(bench.join(decoders[1]).assigns.first)
        let third = try #require(complete(bench, first, 11, on: decoders[0]).first)
        #expect(states(bench, job) == [.done, .leased, .leased, .blocked])
        bench.deliver(.goodbye, from: decoders[1].session)
        #expect(states(bench, job) == [.done, .ready, .leased, .blocked])
        let again = try #require(complete(bench, third, 13, on: decoders[0]).first)
        #expect(again.lease.task == second.lease.task && again.attempt >= 1)
        #expect(bench.job(job)?.task("decode.0.0")?.attempts == 1)
        _ = complete(bench, again, 12, on: decoders[0])
        let mux = try #require(bench.job(job)?.task("mux"))
        #expect(mux.state == .leased)
        #expect(bench.job(job)?.inputs(of: mux)?.map(\.ref) == [blob(11), blob(12), blob(13)])
    }

    @Test("tiles whose decoder died while the muxer read are made again in one round, the others are kept")
    func lostWhileRead() throws {
        let bench = BrokerBench()
        bench.join(front)
        bench.join(muxer)
        let job = try denoised(bench, tiles: 3)
        let first = try #require(bench.join(decoders[0]).assigns.first)
        let second = try #require(bench.join(decoders[1]).assigns.first)
        _ = complete(bench, second, 12, on: decoders[1])
        let held = bench.job(job)?.tasks.filter { $0.state == .leased } ?? []
        let third = try #require(held.first { $0.session == decoders[1].session })
        let lease = Lease(task: TaskID(job: job, name: third.specification.name), fence: third.fence)
        bench.deliver(
            .complete(Complete(lease: lease, outputs: [output("tiles", 13)], elapsedMilliseconds: 5, notes: [])),
            from: decoders[1].session)
        _ = complete(bench, first, 11, on: decoders[0])
        let mux = try #require(bench.job(job)?.task("mux"))
        #expect(mux.state == .leased)
        bench.deliver(.goodbye, from: decoders[1].session)
        #expect(states(bench, job) == [.done, .done, .done, .leased], "the muxer may have them already")
        let reading = Lease(task: TaskID(job: job, name: "mux"), fence: mux.fence)
        bench.deliver(
            .fail(
                Fail(
                    lease: reading, code: "input_missing", message: "gone", retry: .otherWorker,
                    missingInputs: ["decode.0.1.tiles"])), from: muxer.session)
        let after = states(bench, job)
        #expect(after[0] == .done && after[3] == .blocked)
        #expect(after[1] != .done && after[2] != .done, "both lay with the decoder that is gone")
    }

    @Test("a measured decoder's tiles are foretold by their sizes, side by side where there are slots")
    func forecast() throws {
        let bench = BrokerBench()
        bench.join(front)
        bench.join(muxer)
        let begun = try denoised(bench, tiles: 1, key: "a")
        var assign = try #require(bench.join(decoders[0]).assigns.first)
        _ = bench.deliver(assign.complete([output("tiles", 2)], elapsed: 8000), from: decoders[0].session)
        bench.beat(decoders[0])
        let lease = try #require(bench.job(begun)?.task("mux")).fence
        bench.deliver(
            .complete(
                Complete(
                    lease: Lease(task: TaskID(job: begun, name: "mux"), fence: lease), outputs: [output("video", 3)],
                    elapsedMilliseconds: 1000, notes: [])), from: muxer.session)
        bench.beat(muxer)
        let job = try denoised(bench, tiles: 4, key: "b")
        #expect(try #require(bench.status(job)).remainingMilliseconds == 33_000, "four tiles one by one")
        assign = try #require(bench.join(decoders[1]).assigns.first)
        bench.pass(500)
        let left = try #require(bench.status(job)).remainingMilliseconds
        #expect((16_000...17_000).contains(left), "two decoders take two each: \(left)")
    }
}
