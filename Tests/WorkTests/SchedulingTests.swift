import Testing
import Wire
import Work

@Suite("Scheduling")
struct SchedulingTests {
    private func submit(_ tenant: String, priority: Int32 = 0, width: Int = 1) -> Submit {
        var submit = single(priority: priority, parameters: "{\"width\":\(width)}")
        submit.tenant = tenant
        return submit
    }

    /// One worker that takes whatever it is given, for as long as each task's width says.
    private final class Taker {
        let bench: BrokerBench
        let worker = TestWorker(1, ["encoder"])
        private var pending: [Outgoing] = []

        init(_ bench: BrokerBench) { self.bench = bench }

        /// The tenants of the next tasks, in order.
        func serve(_ count: Int) -> [String] {
            var order: [String] = []
            if pending.assigns.isEmpty { pending = bench.join(worker) }
            for _ in 0..<count {
                guard let assign = pending.assigns.first, let job = bench.job(assign.lease.task.job) else { break }
                order.append(job.key.tenant)
                var width = UInt64(job.tasks[0].specification.parameters.filter(\.isNumber)) ?? 1
                if job.key.tenant == "slower than it looks" { width *= 4 }
                bench.now.milliseconds += width * 100
                pending = bench.deliver(assign.complete([], elapsed: width * 100), from: worker.session)
                pending += bench.beat(worker)
            }
            return order
        }
    }

    @Test("tenants share a worker by what their work costs, not by how much they submit")
    func fairShare() {
        let bench = BrokerBench()
        for _ in 0..<30 { _ = bench.submit(submit("crowd", width: 1)) }
        for _ in 0..<6 { _ = bench.submit(submit("long", width: 4)) }
        let taker = Taker(bench)
        let order = taker.serve(25)
        let crowd = order.count { $0 == "crowd" }, long = order.count { $0 == "long" }
        #expect(crowd + long == 25)
        // Four of one for one of the other, but for the first task of each, whose cost nobody knew.
        #expect((4...6).contains(long), "\(order)")
    }

    @Test("what a tenant's tasks really took is counted, not what others like them take")
    func realCost() {
        let bench = BrokerBench()
        for _ in 0..<40 { _ = bench.submit(submit("as expected")) }
        for _ in 0..<40 { _ = bench.submit(submit("slower than it looks")) }
        let order = Taker(bench).serve(40)
        // Four of one for one of the other, but for the first of each.
        #expect((5...11).contains(order.count { $0 == "slower than it looks" }), "\(order)")
    }

    @Test("a tenant that comes late waits for nobody's crowd")
    func noStarvation() {
        let bench = BrokerBench()
        for _ in 0..<20 { _ = bench.submit(submit("crowd")) }
        let taker = Taker(bench)
        #expect(taker.serve(5) == Array(repeating: "crowd", count: 5))
        _ = bench.submit(submit("late"))
        // One task of the crowd may hold the slot already.
        #expect(taker.serve(3).contains("late"))
    }

    @Test("what a running task is only expected to take is not held against a newcomer")
    func entersByRealTime() {
        let bench = BrokerBench()
        for _ in 0..<20 { _ = bench.submit(submit("crowd")) }
        let taker = Taker(bench)
        // The first is running: nothing like it has finished, so that a second is counted for its tenth.
        _ = taker.serve(0)
        _ = bench.submit(submit("late"))
        #expect(taker.serve(3).contains("late"))
    }

    @Test("a tenant that was away has saved no time up")
    func nothingSavedUp() {
        let bench = BrokerBench()
        _ = bench.submit(submit("away"))
        let taker = Taker(bench)
        _ = taker.serve(1)
        bench.deliver(.goodbye, from: taker.worker.session)
        for _ in 0..<40 { _ = bench.submit(submit("busy")) }
        _ = taker.serve(20)
        for _ in 0..<20 { _ = bench.submit(submit("away")) }
        let order = taker.serve(12)
        #expect((5...7).contains(order.count { $0 == "away" }), "\(order)")
    }

    @Test("a priority goes before every share")
    func priorityFirst() {
        let bench = BrokerBench()
        for _ in 0..<3 { _ = bench.submit(submit("poor")) }
        for _ in 0..<3 { _ = bench.submit(submit("rich", priority: 1)) }
        let taker = Taker(bench)
        #expect(taker.serve(6) == ["rich", "rich", "rich", "poor", "poor", "poor"])
    }

    @Test(
        "no denoising is begun while enough of it waits for a decoder, but urgent work is, and what was begun goes on")
    func workInProgress() {
        let bench = BrokerBench { $0.backlogPerSlot = 2 }
        let encoder = TestWorker(1, ["encoder"], slots: 8), denoiser = TestWorker(2, ["denoiser"], slots: 8)
        func encode(_ sends: [Outgoing]) -> [Assign] {
            var others: [Assign] = []
            for assign in sends.assigns {
                guard assign.stage == "encoder" else {
                    others.append(assign)
                    continue
                }
                let result = [output("prompt_embeds", Int(assign.lease.fence))]
                others += encode(bench.deliver(assign.complete(result), from: encoder.session))
                others += encode(bench.beat(encoder))
            }
            return others
        }
        bench.join(encoder)
        for _ in 0..<5 { _ = encode(bench.deliver(.submit(video()), from: session(200))) }
        let begun = encode(bench.join(denoiser))
        // No decoder is connected: two may wait for the first one.
        #expect(begun.count == 2)
        let held = bench.broker.records.order.last ?? ""
        bench.pass(300)
        #expect(bench.status(held)?.tasks.contains { $0.notes.contains { $0.contains("held back") } } == true)

        let urgent = encode(bench.deliver(.submit(video(priority: 5)), from: session(200)))
        #expect(urgent.map { bench.job($0.lease.task.job)?.priority } == [5])

        // A checkpoint makes it work that was begun.
        let first = begun[0]
        bench.deliver(
            .checkpoint(CheckpointReport(lease: first.lease, step: 3, ref: blob(77))), from: denoiser.session)
        bench.deliver(.goodbye, from: denoiser.session)
        let other = TestWorker(3, ["denoiser"], slots: 8)
        let again = bench.join(other).assigns.map(\.lease.task)
        #expect(again.first == urgent.first?.lease.task)
        #expect(again.contains(first.lease.task) && again.count <= 4)
    }

    @Test("urgent work gets the slot of a long denoising, at its next step and not before that pays")
    func preemption() throws {
        let bench = BrokerBench()
        let long = bench.submit(single())
        let worker = TestWorker(1, ["encoder"])
        let assign = try #require(bench.join(worker).assigns.first)
        bench.deliver(.checkpoint(CheckpointReport(lease: assign.lease, step: 1, ref: blob(1))), from: worker.session)
        for step in 1...3 as ClosedRange<UInt32> {
            for _ in 0..<2 { bench.pass(1000) }
            bench.beat(worker, running: [assign], step: step, totalSteps: 100)
        }
        #expect(bench.pass(100).revokes.isEmpty)
        let equal = bench.submit(single())
        #expect(bench.pass(100).revokes.isEmpty)
        let urgent = bench.submit(single(priority: 1))
        let revoke = try #require(bench.pass(100).revokes.first)
        #expect(revoke.lease == assign.lease && revoke.yields && revoke.reason == "preempted")
        #expect(bench.pass(100).revokes.isEmpty)

        bench.deliver(.checkpoint(CheckpointReport(lease: assign.lease, step: 4, ref: blob(2))), from: worker.session)
        bench.deliver(.refuse(Refuse(lease: assign.lease, code: "yielded")), from: worker.session)
        let next = bench.beat(worker).assigns
        #expect(next.map(\.lease.task.job) == [urgent])
        let sends = bench.deliver(next[0].complete([]), from: worker.session) + bench.beat(worker)
        // Work that was begun goes before its equals, from where it stood, and nothing was held against it.
        let resumed = try #require(sends.assigns.first)
        #expect(resumed.lease.task.job == long && resumed.checkpointStep == 4 && resumed.attempt == 1)
        #expect(bench.job(equal)?.state == .accepted)
    }

    @Test("a task that is nearly done, keeps no checkpoints or made room often enough is left alone")
    func noPreemption() throws {
        let bench = BrokerBench { $0.preemptionLimit = 0 }
        _ = bench.submit(single())
        let worker = TestWorker(1, ["encoder"])
        let assign = try #require(bench.join(worker).assigns.first)
        for step in 1...3 as ClosedRange<UInt32> {
            for _ in 0..<3 { bench.pass(1000) }
            bench.beat(worker, running: [assign], step: step, totalSteps: 100)
        }
        _ = bench.submit(single(priority: 1))
        #expect(bench.pass(100).revokes.isEmpty, "no checkpoint")
        bench.deliver(.checkpoint(CheckpointReport(lease: assign.lease, step: 3, ref: blob(1))), from: worker.session)
        #expect(bench.pass(100).revokes.isEmpty, "limit")
        let other = BrokerBench()
        _ = other.submit(single())
        let last = try #require(other.join(worker).assigns.first)
        other.deliver(.checkpoint(CheckpointReport(lease: last.lease, step: 1, ref: blob(1))), from: worker.session)
        for step in 97...99 as ClosedRange<UInt32> {
            for _ in 0..<3 { other.pass(1000) }
            other.beat(worker, running: [last], step: step, totalSteps: 100)
        }
        _ = other.submit(single(priority: 1))
        #expect(other.pass(100).revokes.isEmpty, "nearly done")
    }

    @Test("a tenant with too many jobs is told when to come again, others are not concerned")
    func quota() throws {
        let bench = BrokerBench { $0.tenantJobLimit = 2 }
        let worker = TestWorker(1, ["encoder"])
        _ = bench.submit(submit("a", width: 40))
        let first = try #require(bench.join(worker).assigns.first)
        bench.now.milliseconds += 4000
        bench.deliver(first.complete([], elapsed: 4000), from: worker.session)
        for _ in 0..<2 { _ = bench.submit(submit("a", width: 40)) }
        bench.beat(worker)
        let refusal = try #require(bench.deliver(.submit(submit("a")), from: session(200)).errors.first)
        #expect(refusal.code == "quota")
        #expect((3000...5000).contains(refusal.retryAfterMilliseconds), "\(refusal.retryAfterMilliseconds)")
        #expect(bench.deliver(.submit(submit("b")), from: session(200)).accepted.count == 1)
    }

    @Test("the slot of a job that was cancelled before its task was heard of is free when its worker says so")
    func cancelledSlot() throws {
        let bench = BrokerBench()
        let worker = TestWorker(1, ["encoder"])
        let first = bench.submit(single())
        #expect(bench.join(worker).assigns.count == 1)
        let second = bench.submit(single())
        #expect(bench.deliver(.cancel(job: first), from: session(200)).assigns.isEmpty, "the stage has yet to stop")
        #expect(bench.beat(worker).assigns.map(\.lease.task.job) == [second])
    }
}
