import Failure
import Testing
import Wire
import Work

@Suite("Turns of the broker")
struct TurnTests {
    let worker = TestWorker(1, ["encoder", "denoiser", "decoder", "muxer"])
    let other = TestWorker(2, ["muxer"])

    private func envelope(_ message: Message, from session: SessionID, _ sequence: UInt64) -> Envelope {
        Envelope(session: session, sequence: sequence, brokerEpoch: 1, message: message)
    }

    @Test("a turn commits its whole batch first, then sends, then removes")
    func order() throws {
        let bench = BrokerBench()
        var turn = BrokerTurn([
            .received(envelope(.submit(single()), from: session(200), 1)),
            .received(envelope(.hello(worker.hello), from: worker.session, 1)),
            .received(envelope(.beat(Beat(freeSlots: 1, running: [], storeBytes: 0)), from: worker.session, 2)),
        ])
        turn.decide(with: &bench.broker, now: bench.now)
        guard case .commit(let entries) = turn.next() else {
            Issue.record("the turn does not begin with its commit")
            return
        }
        #expect(entries.map(\.kind) == ["job_accepted", "lease_granted"])
        guard case .send(let sends) = turn.next() else {
            Issue.record("no sends follow the commit")
            return
        }
        #expect(sends.accepted.count == 1 && sends.assigns.count == 1)
        #expect(turn.next() == nil)
    }

    @Test("after a refused commit the same events are decided again without a promise")
    func refused() throws {
        let bench = BrokerBench()
        var turn = BrokerTurn([.received(envelope(.submit(single()), from: session(200), 1))])
        turn.decide(with: &bench.broker, now: bench.now)
        guard case .commit = turn.next() else {
            Issue.record("nothing is committed")
            return
        }
        let reason = Failure("ledger_full", "no room")
        turn.refused(reason, records: Records(), state: &bench.broker, now: bench.now)
        guard case .send(let sends) = turn.next() else {
            Issue.record("the client hears nothing")
            return
        }
        #expect(sends.accepted.isEmpty)
        #expect(sends.errors.map(\.code) == ["ledger_full"])
        #expect(bench.broker.footprint.revisions == 0)
    }

    @Test("beats that came while the broker waited for its disk are heard before leases run out")
    func timeComesLast() throws {
        let bench = BrokerBench()
        let job = bench.submit(single())
        let assign = try #require(bench.join(worker).assigns.first)
        bench.beat(worker, running: [assign])
        bench.pass(14_900)
        bench.now.milliseconds += 500
        let running = RunningTask(
            task: assign.lease.task, fence: assign.lease.fence, step: 0, totalSteps: 0, millisecondsSinceProgress: 0)
        let beat = Beat(freeSlots: 0, running: [running], storeBytes: 0)
        var turn = BrokerTurn([.tick, .received(envelope(.beat(beat), from: worker.session, 1000))])
        turn.decide(with: &bench.broker, now: bench.now)
        #expect(bench.job(job)?.tasks[0].state == .leased)
        bench.pass(14_000)
        #expect(bench.job(job)?.tasks[0].crashes == 0)
    }

    @Test("time in which the broker itself was away counts against no worker")
    func absence() throws {
        let bench = BrokerBench()
        let job = bench.submit(single())
        let assign = try #require(bench.join(worker).assigns.first)
        bench.beat(worker, running: [assign])
        bench.pass(100)
        _ = bench.sleep(600_000)
        #expect(bench.job(job)?.tasks[0].state == .leased)
        #expect(bench.broker.footprint.workers == 1)
        bench.pass(16_000)
        #expect(bench.job(job)?.tasks[0].crashes == 1, "silence after its return counts")
    }

    // Found by the simulator.

    @Test("frames that two jobs share stay in the worker's memory until both are muxed")
    func sharedFrames() throws {
        let bench = BrokerBench()
        let jobs = [bench.submit(video()), bench.submit(video())]
        let decoder = TestWorker(3, ["encoder", "denoiser", "decoder"], slots: 2)
        var assigns = bench.join(decoder).assigns
        while let assign = assigns.first {
            let name = assign.lease.task.name
            let sends = bench.deliver(assign.complete([output(videoOutput[name]!, name.count)]), from: decoder.session)
            assigns =
                assigns.dropFirst() + sends.assigns + bench.beat(decoder, running: Array(assigns.dropFirst())).assigns
        }
        var muxes = bench.join(other).assigns
        for job in jobs {
            #expect(bench.beat(decoder).acknowledgements.allSatisfy { $0.releases.isEmpty }, "before \(job) is muxed")
            let mux = try #require(muxes.first)
            let sends = bench.deliver(mux.complete([output("video", 9)]), from: other.session)
            muxes = sends.assigns + bench.beat(other).assigns
        }
        #expect(bench.beat(decoder).acknowledgements.map(\.releases) == [[digest("decode".count)]])
    }

    @Test("a release that was decided in a refused commit is not sent")
    func refusedRelease() throws {
        let bench = BrokerBench()
        _ = bench.submit(video())
        var assigns = bench.join(worker).assigns
        while let assign = assigns.first, assign.stage != "muxer" {
            let name = assign.lease.task.name
            let sends = bench.deliver(
                assign.complete([output(videoOutput[name]!, name.count)]), from: worker.session)
            assigns = sends.assigns + bench.beat(worker).assigns
        }
        let mux = try #require(assigns.first)
        let records = bench.broker.records
        var turn = BrokerTurn([.received(envelope(mux.complete([output("video", 9)]), from: worker.session, 5000))])
        turn.decide(with: &bench.broker, now: bench.now)
        turn.refused(Failure("ledger_full", "no room"), records: records, state: &bench.broker, now: bench.now)
        bench.broker.recover(records: records, readOnly: nil, now: bench.now)
        #expect(bench.beat(worker, running: [mux]).acknowledgements.allSatisfy { $0.releases.isEmpty })
    }

    @Test("a blob that is brought again stays for another while, and leaves when nobody refers to it")
    func broughtAgain() {
        let bench = BrokerBench { $0.leftoverMilliseconds = 60_000 }
        _ = bench.handle(.stored(digest(5)))
        bench.pass(59_000)
        _ = bench.handle(.stored(digest(5)))
        bench.pass(59_000)
        #expect(bench.removals.isEmpty)
        bench.pass(2000)
        #expect(bench.removals == [digest(5)])
        #expect(bench.broker.footprint.blobs == 0)
    }
}
