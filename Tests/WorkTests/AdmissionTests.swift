import Failure
import Testing
import Wire
import Work

/// New jobs and retries of dead ones are taken, or not, by the same rules.
@Suite("Admission")
struct AdmissionTests {
    private let worker = TestWorker(1, ["encoder"])
    private let client = session(200)

    /// A broker with a job that failed.
    private func bench(_ change: (inout BrokerConfiguration) -> Void) throws -> (BrokerBench, dead: String) {
        let bench = BrokerBench(change)
        let dead = bench.submit(single())
        let assign = try #require(bench.join(worker).assigns.first)
        bench.deliver(assign.fail(.never), from: worker.session)
        bench.deliver(.goodbye, from: worker.session)
        return (bench, dead)
    }

    private func refusals(_ bench: BrokerBench, _ dead: String) -> [[ErrorReply]] {
        [
            bench.deliver(.submit(single()), from: client).errors,
            bench.deliver(.deadRetry(DeadRetry(job: dead, idempotencyKey: "")), from: client).errors,
        ]
    }

    @Test("a retry counts against its tenant like a new job, and hears when to come again")
    func quota() throws {
        let (bench, dead) = try bench { $0.tenantJobLimit = 1 }
        _ = bench.submit(single())
        for errors in refusals(bench, dead) {
            #expect(errors.map(\.code) == ["quota"] && errors.first?.retryAfterMilliseconds == 10_000)
        }
        var other = single()
        other.tenant = "other"
        #expect(bench.deliver(.submit(other), from: client).accepted.count == 1)
    }

    @Test("a full queue takes neither; both hear when by forecast the next job ends")
    func overloaded() throws {
        let (bench, dead) = try bench { $0.unfinishedJobLimit = 2 }
        _ = bench.submit(single())
        let assign = try #require(bench.join(worker).assigns.first)
        bench.now.milliseconds += 4000
        bench.deliver(assign.complete([], elapsed: 4000), from: worker.session)
        _ = bench.submit(single())
        _ = bench.submit(single())
        for errors in refusals(bench, dead) {
            #expect(errors.map(\.code) == ["overloaded"] && errors.first?.retryAfterMilliseconds == 4000)
        }
    }

    @Test("a draining broker takes neither, and a known key is answered all the same")
    func draining() throws {
        let (bench, dead) = try bench { _ in }
        let known = bench.submit(single(key: "k"))
        bench.deliver(.drain(Drain(worker: "", stage: "", broker: true, resume: false)), from: client)
        for errors in refusals(bench, dead) { #expect(errors.map(\.code) == ["draining"]) }
        let again = bench.deliver(.submit(single(key: "k")), from: client).accepted
        #expect(again == [Accepted(job: known, replayed: true)])
    }

    @Test("a retry brings a tenant that was away no saved time")
    func share() throws {
        let (bench, dead) = try bench { _ in }
        for _ in 0..<20 {
            var busy = single()
            busy.tenant = "busy"
            _ = bench.submit(busy)
        }
        var tenants: [String] = []
        var sends = bench.join(worker)
        for round in 0..<14 {
            guard let assign = sends.assigns.first, let job = bench.job(assign.lease.task.job) else { break }
            tenants.append(job.key.tenant)
            bench.now.milliseconds += 1000
            if round == 9 {
                for _ in 0..<4 { bench.deliver(.deadRetry(DeadRetry(job: dead, idempotencyKey: "")), from: client) }
            }
            sends = bench.deliver(assign.complete([], elapsed: 1000), from: worker.session) + bench.beat(worker)
        }
        // The tenants take turns from there on; with its time saved up the retries would all go first.
        #expect(tenants.count == 14)
        #expect((1...3).contains(tenants.suffix(4).count { $0 == "t" }), "\(tenants)")
    }
}
