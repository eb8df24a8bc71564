import Failure
import Testing
import Wire
import Work

@Suite("Leases")
struct LeaseTests {
    let first = TestWorker(1, ["encoder"])
    let second = TestWorker(2, ["encoder"])

    @Test("a task goes to a worker only after its first beat, with fence and attempt committed in the same step")
    func assignment() throws {
        let bench = BrokerBench()
        let job = bench.submit(single())
        #expect(bench.deliver(.hello(first.hello), from: first.session).assigns.isEmpty)
        let sends = bench.beat(first)
        let assign = try #require(sends.assign(to: first.session))
        #expect(assign.lease == Lease(task: TaskID(job: job, name: "only"), fence: 1))
        #expect(assign.attempt == 1)
        guard case .leaseGranted(let grant) = try #require(bench.entries.last) else { Issue.record("no grant"); return }
        #expect(grant.lease == assign.lease && grant.session == first.session)
        #expect(bench.job(job)?.state == .running)
    }

    @Test("a worker of another stage or model gets nothing")
    func capability() {
        let bench = BrokerBench()
        _ = bench.submit(single())
        #expect(bench.join(TestWorker(1, ["decoder"])).assigns.isEmpty)
        #expect(bench.join(TestWorker(2, ["encoder"], model: "m2")).assigns.isEmpty)
        #expect(bench.join(TestWorker(3, ["encoder"])).assigns.count == 1)
    }

    @Test("a beat from an unknown session is answered NEED_HELLO")
    func needHello() {
        let bench = BrokerBench()
        #expect(bench.beat(first).map(\.message) == [.needHello])
    }

    @Test("a worker that needs a newer protocol is refused")
    func version() {
        let bench = BrokerBench()
        var hello = first.hello
        hello.minimumMinor = 1
        #expect(bench.deliver(.hello(hello), from: first.session).errors.map(\.code) == ["version_unsupported"])
        #expect(bench.beat(first).map(\.message) == [.needHello])
    }

    @Test("beats renew a lease; silence ends it after one lease time and counts as a crash")
    func expiry() throws {
        let bench = BrokerBench()
        let job = bench.submit(single())
        let assign = try #require(bench.join(first).assigns.first)
        for _ in 0..<5 {
            bench.pass(10_000)
            bench.beat(first, running: [assign])
        }
        #expect(bench.job(job)?.tasks[0].state == .leased)
        bench.pass(14_999)
        #expect(bench.job(job)?.tasks[0].state == .leased)
        bench.pass(1)
        #expect(bench.job(job)?.tasks[0].state == .ready)
        #expect(bench.job(job)?.tasks[0].crashes == 1)
        let again = try #require(bench.join(second).assigns.first)
        #expect(again.lease.fence > assign.lease.fence)
        #expect(again.attempt == 2)
    }

    @Test("a result of an old fence, of a stranger or for a finished job is answered LEASE_LOST and changes nothing")
    func stale() throws {
        let bench = BrokerBench()
        let job = bench.submit(single())
        let old = try #require(bench.join(first).assigns.first)
        bench.pass(20_000)
        let new = try #require(bench.join(second).assigns.first)
        let before = bench.entries.count
        for message in [
            old.complete([]), old.fail(.never), .checkpoint(CheckpointReport(lease: old.lease, step: 1, ref: blob(1))),
        ] {
            #expect(bench.deliver(message, from: first.session).leaseLosts == [old.lease])
        }
        #expect(bench.deliver(new.complete([]), from: first.session).leaseLosts == [new.lease])
        #expect(bench.entries.count == before)
        #expect(bench.deliver(new.complete([]), from: second.session).committed == [new.lease])
        #expect(bench.job(job)?.state == .done)
        #expect(bench.deliver(new.fail(.never), from: second.session).leaseLosts == [new.lease])
        #expect(bench.job(job)?.state == .done)
    }

    @Test("COMPLETE is idempotent: repeated, it is COMMITTED again and nothing more is written")
    func idempotentComplete() throws {
        let bench = BrokerBench()
        _ = bench.submit(single())
        let assign = try #require(bench.join(first).assigns.first)
        #expect(bench.deliver(assign.complete([]), from: first.session).committed == [assign.lease])
        let count = bench.entries.count
        #expect(bench.deliver(assign.complete([]), from: first.session).committed == [assign.lease])
        #expect(bench.beat(first, running: [assign]).committed == [assign.lease])
        #expect(bench.entries.count == count)
    }

    @Test("an assignment that no beat lists for two beats and the allowed delay was lost: its attempt is given back")
    func lostAssignment() throws {
        let bench = BrokerBench()
        let job = bench.submit(single())
        let lost = try #require(bench.join(first).assigns.first)
        for _ in 0..<6 {
            bench.pass(1000)
            bench.beat(first, free: 0)
        }
        #expect(bench.job(job)?.tasks[0].state == .leased)
        bench.pass(1000)
        let again = try #require(bench.beat(first).assigns.first)
        #expect(again.lease.fence > lost.lease.fence)
        #expect(again.attempt == 1)
        #expect(bench.job(job)?.tasks[0].attempts == 1)
    }

    @Test("beats that were under way when the assignment left do not count against it")
    func beatsUnderWay() throws {
        let bench = BrokerBench()
        let job = bench.submit(single())
        _ = try #require(bench.join(first).assigns.first)
        for _ in 0..<4 { bench.beat(first, free: 0) }
        #expect(bench.job(job)?.tasks[0].state == .leased)
    }

    @Test("a task that a worker listed and then dropped keeps its attempt")
    func dropped() throws {
        let bench = BrokerBench()
        let job = bench.submit(single())
        let assign = try #require(bench.join(first).assigns.first)
        bench.beat(first, running: [assign])
        bench.pass(2000)
        bench.beat(first, free: 0)
        bench.beat(first, free: 0)
        #expect(bench.job(job)?.tasks[0].state == .ready)
        #expect(bench.job(job)?.tasks[0].attempts == 1)
    }

    @Test("an old beat that arrives late is acknowledged and ignored")
    func reorderedBeats() throws {
        let bench = BrokerBench()
        let job = bench.submit(single())
        bench.deliver(.hello(first.hello), from: first.session, sequence: 1)
        bench.deliver(.beat(Beat(freeSlots: 0, running: [], storeBytes: 0)), from: first.session, sequence: 9)
        let sends = bench.deliver(
            .beat(Beat(freeSlots: 1, running: [], storeBytes: 0)), from: first.session, sequence: 5)
        #expect(sends.assigns.isEmpty)
        #expect(sends.acknowledgements.map(\.sequence) == [9])
        #expect(bench.job(job)?.tasks[0].state == .ready)
    }

    @Test("a beat that lists a fence which is not current is answered LEASE_LOST")
    func staleFenceInBeat() throws {
        let bench = BrokerBench()
        _ = bench.submit(single())
        let old = try #require(bench.join(first).assigns.first)
        bench.pass(20_000)
        bench.deliver(.hello(first.hello), from: first.session)
        #expect(bench.beat(first, running: [old]).leaseLosts == [old.lease])
    }

    @Test("GOODBYE hands the leases back at once, nothing counted")
    func goodbye() throws {
        let bench = BrokerBench()
        let job = bench.submit(single())
        _ = bench.join(first)
        _ = bench.join(second)
        let sends = bench.deliver(.goodbye, from: first.session)
        let again = try #require(sends.assign(to: second.session))
        #expect(again.attempt == 1)
        #expect(bench.job(job)?.tasks[0].crashes == 0)
        #expect(bench.beat(first).map(\.message) == [.needHello])
    }

    @Test("REFUSE gives the attempt back and waits for the next beat and a growing delay")
    func refuse() throws {
        let bench = BrokerBench()
        let job = bench.submit(single())
        let assign = try #require(bench.join(first).assigns.first)
        #expect(bench.deliver(.refuse(Refuse(lease: assign.lease, code: "busy")), from: first.session).assigns.isEmpty)
        #expect(bench.job(job)?.tasks[0].attempts == 0)
        #expect(bench.beat(first).assigns.isEmpty)
        #expect(bench.pass(200).assigns.isEmpty)
        #expect(bench.pass(400).assigns.count == 1)
    }

    @Test("an unfit worker is passed over while another one is there")
    func unfit() throws {
        let bench = BrokerBench()
        _ = bench.submit(single())
        let assign = try #require(bench.join(first).assigns.first)
        bench.deliver(.refuse(Refuse(lease: assign.lease, code: "unfit")), from: first.session)
        bench.join(second)
        bench.beat(first)
        let sends = bench.pass(600)
        #expect(sends.assign(to: second.session) != nil)
    }

    @Test("an assignment to a peer that cannot be reached is taken back; a listed one waits for its lease")
    func unreachable() throws {
        let bench = BrokerBench()
        let job = bench.submit(single())
        bench.join(first)
        bench.handle(.unreachable(first.session))
        #expect(bench.job(job)?.tasks[0].state == .ready)
        #expect(bench.job(job)?.tasks[0].attempts == 0)
        let assign = try #require(bench.beat(first).assigns.first)
        bench.beat(first, running: [assign])
        bench.handle(.unreachable(first.session))
        #expect(bench.job(job)?.tasks[0].state == .leased)
    }

    @Test("a task without progress is revoked, counted as a failure and given to another worker")
    func watchdog() throws {
        let bench = BrokerBench { $0.stallMilliseconds = 60_000 }
        let job = bench.submit(single())
        let assign = try #require(bench.join(first).assigns.first)
        bench.join(second)
        bench.pass(10_000)
        bench.beat(second)
        #expect(bench.beat(first, running: [assign], sinceProgress: 60_000).revokes.isEmpty)
        let sends = bench.beat(first, running: [assign], sinceProgress: 60_001)
        #expect(sends.revokes == [Revoke(lease: assign.lease, reason: "stalled")])
        #expect(bench.job(job)?.tasks[0].failures == 1)
        #expect(bench.pass(1000).assign(to: second.session) != nil)
    }

    @Test("before a run has shown its step time the watchdog goes by what such steps took on a worker that is warm")
    func expectedWatchdog() throws {
        let bench = BrokerBench { $0.minimumStallMilliseconds = 3000 }
        func submit(_ dtype: String) -> [Outgoing] {
            let parameters = #"{"numInferenceSteps":10,"dtype":"\#(dtype)"}"#
            return bench.deliver(.submit(single(parameters: parameters)), from: session(200))
        }
        _ = submit("bfloat16")
        let measured = try #require(bench.join(first).assigns.first)
        bench.deliver(measured.complete([], elapsed: 10_000), from: first.session)
        let warm = try #require(submit("bfloat16").assigns.first)
        // Ten steps took 10 s: one takes 1 s, five of them 5 s.
        #expect(bench.beat(first, running: [warm], totalSteps: 10, sinceProgress: 5000).revokes.isEmpty)
        #expect(bench.beat(first, running: [warm], totalSteps: 10, sinceProgress: 5001).revokes.count == 1)
        let retried = bench.join(second).assigns + bench.pass(1000).assigns
        let cold = try #require(retried.first)
        #expect(bench.beat(second, running: [cold], totalSteps: 10, sinceProgress: 60_000).revokes.isEmpty)
        bench.deliver(cold.complete([], elapsed: 10_000), from: second.session)
        let otherWeights = try #require((submit("int8") + bench.beat(second)).assign(to: second.session))
        #expect(bench.beat(second, running: [otherWeights], totalSteps: 10, sinceProgress: 60_000).revokes.isEmpty)
    }

    @Test("once the step time is known the watchdog allows five of them, and never less than its minimum")
    func measuredWatchdog() throws {
        let bench = BrokerBench { $0.minimumStallMilliseconds = 3000 }
        _ = bench.submit(single())
        let assign = try #require(bench.join(first).assigns.first)
        for step in 1...4 as ClosedRange<UInt32> {
            bench.pass(1000)
            bench.beat(first, running: [assign], step: step, totalSteps: 50)
        }
        bench.pass(5000)
        #expect(bench.beat(first, running: [assign], step: 4, totalSteps: 50, sinceProgress: 5000).revokes.isEmpty)
        bench.pass(1)
        #expect(bench.beat(first, running: [assign], step: 4, totalSteps: 50, sinceProgress: 5001).revokes.count == 1)
    }
}
