import Failure
import Testing
import Wire
import Work

@Suite("Deadlines")
struct DeadlineTests {
    private let worker = TestWorker(1, ["encoder"])
    private let client = session(200)

    private func submit(
        deadline: UInt64 = 0, tenant: String = "t", priority: Int32 = 0, width: Int = 1, key: String = ""
    ) -> Submit {
        var submit = single(key: key, priority: priority, parameters: "{\"width\":\(width)}")
        submit.tenant = tenant
        submit.deadlineMilliseconds = deadline
        return submit
    }

    /// A broker that knows that a task takes a second for each unit of width.
    private func measured(_ change: (inout BrokerConfiguration) -> Void = { _ in }) throws -> BrokerBench {
        let bench = BrokerBench(change)
        _ = bench.submit(submit())
        let assign = try #require(bench.join(worker).assigns.first)
        bench.now.milliseconds += 1000
        bench.deliver(assign.complete([], elapsed: 1000), from: worker.session)
        bench.beat(worker, free: 0)
        return bench
    }

    private func state(_ bench: BrokerBench, _ job: String) -> (JobState?, String?) {
        (bench.job(job)?.state, bench.job(job)?.errorCode)
    }

    /// Runs what is waiting to its end, one after the other.
    /// - Returns: the jobs in the order in which they were begun.
    private func serve(_ bench: BrokerBench, _ count: Int) -> [String] {
        var order: [String] = []
        var sends = bench.beat(worker)
        for _ in 0..<count {
            guard let assign = sends.assigns.first else { break }
            order.append(assign.lease.task.job)
            let width = UInt64(assign.parameters.filter(\.isNumber)) ?? 1
            for _ in 0..<width {
                _ = bench.pass(1000)
                bench.beat(worker, running: [assign])
            }
            sends = bench.deliver(assign.complete([], elapsed: width * 1000), from: worker.session)
            sends += bench.beat(worker)
        }
        return order
    }

    // MARK: Passing

    @Test("a job whose deadline passes has failed; its task is taken back and its checkpoint stays")
    func passes() throws {
        let bench = BrokerBench()
        let job = bench.submit(submit(deadline: 5000))
        let assign = try #require(bench.join(worker).assigns.first)
        bench.deliver(.checkpoint(CheckpointReport(lease: assign.lease, step: 3, ref: blob(1))), from: worker.session)
        #expect(bench.status(job)?.deadlineUnixMilliseconds == bench.now.unixMilliseconds + 5000)
        #expect(bench.pass(4900).revokes.isEmpty)
        #expect(bench.job(job)?.state == .running)
        let revokes = bench.pass(200).revokes
        #expect(revokes.map(\.lease) == [assign.lease] && revokes.first?.yields == false)
        #expect(state(bench, job) == (.failed, "deadline_exceeded"))
        #expect(bench.job(job)?.errorMessage.contains("0 of 1 tasks") == true)
        #expect(bench.job(job)?.tasks[0].checkpointStep == 3)
        #expect(bench.broker.records.refers(to: digest(1)))
        let late = bench.deliver(assign.complete([]), from: worker.session)
        #expect(late.leaseLosts == [assign.lease] && late.committed.isEmpty)
        #expect(bench.job(job)?.state == .failed)
        #expect(bench.broker.footprint.tasks == 0)
    }

    @Test("what waits fails too, what ended in time is done, and what has no deadline waits on")
    func waitingAndDone() throws {
        let bench = BrokerBench()
        let done = bench.submit(submit(deadline: 3000))
        let assign = try #require(bench.join(worker).assigns.first)
        bench.deliver(assign.complete([]), from: worker.session)
        bench.deliver(.goodbye, from: worker.session)
        let waiting = bench.submit(submit(deadline: 3000))
        let patient = bench.submit(submit())
        bench.pass(3000)
        #expect(bench.job(done)?.state == .done)
        #expect(state(bench, waiting) == (.failed, "deadline_exceeded"))
        #expect(bench.job(patient)?.state == .accepted)
    }

    @Test("a retry of a late job goes on from its checkpoint, and takes its time")
    func retry() throws {
        let bench = BrokerBench()
        let late = bench.submit(submit(deadline: 2000))
        let assign = try #require(bench.join(worker).assigns.first)
        bench.deliver(.checkpoint(CheckpointReport(lease: assign.lease, step: 7, ref: blob(1))), from: worker.session)
        bench.pass(2000)
        bench.beat(worker)
        let sends = bench.deliver(.deadRetry(DeadRetry(job: late, idempotencyKey: "again")), from: client)
        let retried = try #require(sends.accepted.first?.job)
        #expect(sends.assigns.first?.checkpointStep == 7)
        #expect(bench.job(retried)?.deadline == nil)
        bench.pass(5000)
        #expect(bench.job(retried)?.state == .running)
    }

    @Test("while the ledger cannot be written no job ends; with it, the late one does")
    func readOnly() {
        let bench = BrokerBench()
        let job = bench.submit(submit(deadline: 2000))
        bench.broker.recover(
            records: bench.broker.records, readOnly: Failure("ledger_full", "no room"), now: bench.now)
        bench.pass(3000)
        #expect(bench.job(job)?.state == .accepted)
        bench.broker.recover(records: bench.broker.records, readOnly: nil, now: bench.now)
        bench.pass(100)
        #expect(state(bench, job) == (.failed, "deadline_exceeded"))
    }

    // MARK: Clocks

    private static let day: Int64 = 86_400_000

    private func jump(_ bench: BrokerBench, by milliseconds: Int64) {
        bench.now.unixMilliseconds = UInt64(Int64(bench.now.unixMilliseconds) + milliseconds)
    }

    @Test(
        "a wall clock that jumps moves no deadline, while the broker runs or between its runs", arguments: [-day, day])
    func wallClock(jumped: Int64) throws {
        let bench = BrokerBench { $0.boot = "first" }
        let job = bench.submit(submit(deadline: 60_000))
        bench.pass(10_000)
        jump(bench, by: jumped)
        bench.pass(10_000)
        #expect(bench.status(job)?.deadlineUnixMilliseconds == bench.now.unixMilliseconds + 40_000)
        jump(bench, by: jumped)
        bench.restart()
        bench.pass(39_000)
        #expect(bench.job(job)?.state == .accepted)
        bench.pass(1000)
        #expect(state(bench, job) == (.failed, "deadline_exceeded"))
    }

    @Test("time in which no broker ran counts")
    func absence() {
        let bench = BrokerBench { $0.boot = "first" }
        let job = bench.submit(submit(deadline: 60_000))
        bench.now.milliseconds += 61_000
        bench.restart()
        bench.pass(0)
        #expect(state(bench, job) == (.failed, "deadline_exceeded"))
    }

    @Test("after a start of the machine the wall clock counts, but ends nothing at once and adds nothing")
    func otherBoot() throws {
        func left(after jumped: Int64, deadline: UInt64 = 3_600_000) throws -> UInt64 {
            let bench = BrokerBench { $0.boot = "first" }
            let job = bench.submit(submit(deadline: deadline))
            bench.now.milliseconds = 7
            jump(bench, by: jumped)
            bench.restart { $0.boot = "second" }
            let status = try #require(bench.status(job))
            return status.deadlineUnixMilliseconds - bench.now.unixMilliseconds
        }
        #expect(try left(after: 1_000_000) == 2_600_000)
        #expect(try left(after: Self.day) == 600_000)
        #expect(try left(after: -Self.day) == 3_600_000)
        #expect(try left(after: Self.day, deadline: 30_000) == 30_000)
    }

    @Test("what the wall clock said once is written down by the machine's new clocks, and not asked again")
    func moved() throws {
        let bench = BrokerBench { $0.boot = "first" }
        let job = bench.submit(submit(deadline: 3_600_000))
        bench.now.milliseconds = 7
        jump(bench, by: 600_000)
        bench.restart { $0.boot = "second" }
        bench.pass(1000)
        let moves = bench.entries.filter { $0.kind == "deadline_moved" }
        #expect(moves.count == 1 && moves.first?.job == job)
        let deadline = try #require(bench.job(job)?.deadline)
        #expect(deadline.boot == "second" && deadline.milliseconds == 3_600_000)
        #expect(deadline.bootMilliseconds == 7 + 3_000_000)
        jump(bench, by: Self.day)
        bench.restart()
        bench.pass(1000)
        #expect(bench.entries.filter { $0.kind == "deadline_moved" }.count == 1)
        let status = try #require(bench.status(job))
        #expect(status.deadlineUnixMilliseconds - bench.now.unixMilliseconds == 2_998_000)
    }

    // MARK: Admission

    @Test("a deadline that cannot be kept by what was measured is refused with the estimate; an unknown one is taken")
    func unreachable() throws {
        let unknown = BrokerBench()
        unknown.join(worker)
        _ = unknown.submit(submit())
        #expect(unknown.deliver(.submit(submit(deadline: 1)), from: client).accepted.count == 1)

        let bench = try measured()
        let before = bench.entries.count
        let error = try #require(
            bench.deliver(.submit(submit(deadline: 9000, width: 10)), from: client).errors.first)
        #expect(error.code == "deadline_unreachable")
        #expect(error.message == "the job would be ready in about 10 s, its deadline is in 9 s")
        #expect(bench.entries.count == before)
        #expect(bench.deliver(.submit(submit(deadline: 11_000, width: 10)), from: client).accepted.count == 1)
    }

    @Test("the estimate counts what goes before the job, and not what it would go before")
    func estimate() throws {
        let bench = try measured()
        for _ in 0..<9 { _ = bench.submit(submit(width: 10)) }
        bench.beat(worker)
        // One runs; the others of this tenant would make way.
        #expect(bench.deliver(.submit(submit(deadline: 13_000, width: 2)), from: client).accepted.count == 1)
        #expect(
            bench.deliver(.submit(submit(deadline: 13_000, width: 2)), from: client).errors.map(\.code) == [
                "deadline_unreachable"
            ])
        for _ in 0..<9 { _ = bench.submit(submit(tenant: "other", priority: 1, width: 10)) }
        let error = bench.deliver(.submit(submit(deadline: 80_000, width: 2)), from: client).errors.first
        #expect(error?.code == "deadline_unreachable")
    }

    @Test("a known key is answered with its job, whatever has become of its deadline")
    func replay() throws {
        let bench = try measured()
        let first = bench.submit(submit(deadline: 20_000, width: 10, key: "k"))
        let again = bench.deliver(.submit(submit(deadline: 1, width: 10, key: "k")), from: client)
        #expect(again.accepted == [Accepted(job: first, replayed: true)])
    }

    // MARK: The order

    @Test(
        "of one tenant the job goes first whose deadline is at risk, the earliest of several; others keep their turns")
    func order() throws {
        let bench = try measured()
        let old = (0..<3).map { _ in bench.submit(submit(width: 10)) }
        let relaxed = bench.submit(submit(deadline: 500_000, width: 10))
        let later = bench.submit(submit(deadline: 40_000, width: 10))
        let sooner = bench.submit(submit(deadline: 26_000, width: 10))
        bench.pass(1000)
        #expect(serve(bench, 6) == [sooner, later] + old + [relaxed])
        #expect([relaxed, later, sooner].allSatisfy { bench.job($0)?.state == .done })
    }

    @Test("while nothing is measured a deadline counts as at risk")
    func unmeasured() {
        let bench = BrokerBench()
        let patient = bench.submit(submit())
        let wanted = bench.submit(submit(deadline: 3_600_000))
        bench.join(worker)
        #expect(bench.job(wanted)?.state == .running && bench.job(patient)?.state == .accepted)
    }

    @Test("no deadline goes against a priority or against another tenant's share")
    func notAgainstOthers() throws {
        let bench = try measured()
        let old = bench.submit(submit(width: 10))
        let wanted = bench.submit(submit(deadline: 40_000, width: 10))
        let too = bench.submit(submit(deadline: 45_000, width: 10))
        let others = (0..<2).map { _ in bench.submit(submit(tenant: "other", width: 10)) }
        let urgent = bench.submit(submit(tenant: "third", priority: 1, width: 10))
        bench.pass(1000)
        #expect(serve(bench, 6) == [urgent, wanted, others[0], too, others[1], old])
    }
}
