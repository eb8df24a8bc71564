import Bus
import BrokerService
import Failure
import Ledger
import Synchronization
import Tensor
import Testing
import Wire
import Work

@Suite("Broker over ipc", .timeLimit(.minutes(1)))
struct BrokerTests {
    @Test("two jobs are spread over two workers and both end DONE")
    func spread() async throws {
        let fixture = try BrokerFixture()
        let broker = fixture.broker()
        try await broker.start()
        let workers = [try await fixture.worker("w1"), try await fixture.worker("w2")]
        let jobs = [try await fixture.submit().job, try await fixture.submit().job]
        // Neither finishes before both have one.
        let assigns = [await workers[0].starts.first(), await workers[1].starts.first()].compactMap(\.self)
        #expect(Set(assigns.map(\.lease.task.job)) == Set(jobs))
        for (worker, assign) in zip(workers, assigns) { await worker.finish(assign) }
        for job in jobs {
            let status = try await fixture.end(of: job)
            #expect(status.state == .done)
            #expect(status.tasks[0].notes == ["done by a test"])
        }
        await broker.stop()
        for worker in workers { await worker.end() }
        await fixture.remove()
    }

    @Test("a worker that stops beating loses its lease, and another one completes the task")
    func silence() async throws {
        let fixture = try BrokerFixture(leaseMilliseconds: 2000)
        let broker = fixture.broker()
        try await broker.start()
        let first = try await fixture.worker("first")
        let job = try await fixture.submit().job
        let lost = try #require(await first.starts.first())
        await first.freeze()
        let second = try await fixture.worker("second")
        let again = try #require(await second.starts.first())
        #expect(again.lease.task == lost.lease.task)
        #expect(again.lease.fence > lost.lease.fence)
        #expect(again.attempt >= 2)
        await second.finish(again)
        let status = try await fixture.end(of: job)
        #expect(status.state == .done)
        #expect(status.tasks[0].worker == "second")
        await broker.stop()
        await first.end()
        await second.end()
        await fixture.remove()
    }

    @Test("a broker restarted on the same ledger keeps its jobs, its epoch rises, and a running task ends where it ran")
    func restart() async throws {
        let fixture = try BrokerFixture()
        let before = fixture.broker()
        let first = try await before.start()
        let worker = try await fixture.worker("steady")
        let job = try await fixture.submit(key: "k").job
        let assign = try #require(await worker.starts.first())
        await before.stop()

        let after = fixture.broker()
        let second = try await after.start()
        #expect(second.epoch == first.epoch + 1)
        #expect(try await fixture.submit(key: "k") == Accepted(job: job, replayed: true))
        await worker.finish(assign)
        let status = try await fixture.end(of: job)
        #expect(status.state == .done)
        #expect(status.tasks[0].attempt == 1)
        await after.stop()
        await worker.end()
        await fixture.remove()
    }

    @Test("a repeated submission replays, the same key with another body is refused, an unknown job is not found")
    func answers() async throws {
        let fixture = try BrokerFixture()
        let broker = fixture.broker()
        try await broker.start()
        let first = try await fixture.submit(key: "k")
        #expect(!first.replayed)
        #expect(try await fixture.submit(key: "k") == Accepted(job: first.job, replayed: true))
        await #expect(throws: Failure.self) { try await fixture.submit(key: "k", body: 2) }
        do {
            _ = try await fixture.submit(key: "k", body: 2)
        } catch let failure as Failure {
            #expect(failure.code == "key_reused_with_other_body")
        }
        do {
            _ = try await fixture.status("video_nobody")
            Issue.record("found a job that does not exist")
        } catch let failure as Failure {
            #expect(failure.code == "job_not_found")
        }
        #expect(try await fixture.status(first.job).tasks[0].notes == ["waiting for an encoder with model m1"])
        await broker.stop()
        await fixture.remove()
    }

    @Test("a worker that says goodbye hands its task to another one at once")
    func goodbye() async throws {
        let fixture = try BrokerFixture()
        let broker = fixture.broker()
        try await broker.start()
        let first = try await fixture.worker("first")
        let job = try await fixture.submit().job
        _ = try #require(await first.starts.first())
        let second = try await fixture.worker("second")
        await first.leave()
        let assign = try #require(await second.starts.first())
        #expect(assign.attempt == 1)
        await second.finish(assign)
        #expect(try await fixture.end(of: job).state == .done)
        await broker.stop()
        await first.end()
        await second.end()
        await fixture.remove()
    }

    @Test("cancelling revokes the running task and reports CANCELLED")
    func cancel() async throws {
        let fixture = try BrokerFixture()
        let broker = fixture.broker()
        try await broker.start()
        let worker = try await fixture.worker("w")
        let job = try await fixture.submit().job
        let assign = try #require(await worker.starts.first())
        let answer = try await fixture.client.request(.cancel(job: job), timeout: .seconds(20))
        #expect(answer == .cancelOutcome(CancelOutcome(job: job, state: .cancelled)))
        #expect(await worker.ends.first() == .cancel(assign.lease, reason: "cancelled"))
        await broker.stop()
        await worker.end()
        await fixture.remove()
    }

    @Test("a full disk makes the broker read-only: submissions are refused, queries served, and it recovers by itself")
    func fullDisk() async throws {
        let fixture = try BrokerFixture()
        let store = FillingStore()
        let broker = fixture.broker(store: store)
        try await broker.start()
        let job = try await fixture.submit().job
        store.isFull = true
        do {
            _ = try await fixture.submit()
            Issue.record("accepted a job without writing it")
        } catch let failure as Failure {
            #expect(failure.code == "ledger_full")
        }
        #expect(try await fixture.status(job).state == .accepted)
        store.isFull = false
        var later: String?
        while later == nil { later = try? await fixture.submit().job }
        #expect(store.jobs == [job, later])
        await broker.stop()
        await fixture.remove()
    }

    @Test("the store that WELCOME names takes a blob and still has it after a restart")
    func blobs() async throws {
        let fixture = try BrokerFixture()
        let before = fixture.broker()
        try await before.start()
        guard case .welcome(let welcome) = try await fixture.client.request(.clientHello, timeout: .seconds(20)) else {
            Issue.record("no WELCOME")
            return
        }
        let data = DataClient(loop: fixture.loop, session: .random(), runDirectory: fixture.settings.runDirectory)
        let bytes = (0..<100_000).map { UInt8(truncatingIfNeeded: $0 * 7) }
        let tensor = Tensor(bytes: bytes)
        let ref = try await data.store(tensor, at: welcome.storeLocations, timeout: .seconds(20))
        await before.stop()
        let after = fixture.broker()
        try await after.start()
        let fetched = try await data.fetch(ref, timeout: .seconds(20))
        #expect(fetched.withUnsafeBytes { Array($0) } == bytes)
        await after.stop()
        await fixture.remove()
    }
}

/// A store in memory whose disk can be full.
final class FillingStore: EntryStore {
    private struct Contents {
        var entries: [LedgerEntry] = []
        var isFull = false
    }

    let epoch: UInt64 = 1
    let needsCompaction = false
    private let contents = Mutex(Contents())

    var isFull: Bool {
        get { contents.withLock { $0.isFull } }
        set { contents.withLock { $0.isFull = newValue } }
    }

    var jobs: [String] { contents.withLock { $0.entries.filter { $0.kind == "job_accepted" }.map(\.job) } }

    func load() throws(Failure) -> Records {
        var records = Records()
        for entry in contents.withLock({ $0.entries }) { records.apply(entry) }
        return records
    }

    func commit(_ entries: [LedgerEntry]) async throws(Failure) {
        let isWritten = contents.withLock { contents in
            if !contents.isFull { contents.entries += entries }
            return !contents.isFull
        }
        guard isWritten else { throw Failure("ledger_full", "no space left on the test's disk") }
    }

    func compact(_ records: Records) async throws(Failure) {}

    func probe() async throws(Failure) { try await commit([]) }
}
