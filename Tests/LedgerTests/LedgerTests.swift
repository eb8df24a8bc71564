import Failure
import Foundation
import Ledger
import Tensor
import Testing
import Wire
import Work

@Suite("Ledger")
struct LedgerTests {
    let directory = NSTemporaryDirectory() + "zoetrope-ledger-\(UUID().uuidString)"

    @Test("opens in WAL mode with synchronous FULL")
    func durability() throws {
        defer { remove() }
        let ledger = try Ledger(directory: directory)
        let durability = try ledger.durability()
        #expect(durability.synchronous == 2)
        #expect(durability.journalMode == "wal")
    }

    @Test("a cell's name is made up once, may be given once, and stays then")
    func cell() throws {
        defer { remove() }
        let invented = try Ledger(directory: directory).cell(named: nil)
        #expect(invented.hasPrefix("cell-"))
        #expect((try? CellName(invented)) != nil)
        #expect(try Ledger(directory: directory).cell(named: nil) == invented)
        #expect(try Ledger(directory: directory).cell(named: "north") == "north")
        #expect(try Ledger(directory: directory).cell(named: nil) == "north")
        let failure = #expect(throws: Failure.self) { try Ledger(directory: directory).cell(named: "south") }
        #expect(failure?.code == "cell_mismatch")
        #expect(try Ledger(directory: directory).cell(named: "north") == "north")
    }

    @Test("what was committed is what is loaded, and the epoch rises with every opening")
    func reopen() async throws {
        defer { remove() }
        var expected = Records()
        for epoch in 1...3 as ClosedRange<UInt64> {
            let ledger = try Ledger(directory: directory)
            #expect(ledger.epoch == epoch)
            #expect(try ledger.load() == expected)
            let entries = history(job: "job-\(epoch)", fence: epoch * 10)
            try await ledger.commit(entries)
            for entry in entries { expected.apply(entry) }
            #expect(try ledger.load() == expected)
        }
        #expect(expected.jobs.count == 3)
        #expect(expected.lastFence == 31)
    }

    @Test("the lock that a child has until it execs, forked by whomever, keeps nobody out once the ledger is closed")
    func forkedCopy() throws {
        defer { remove() }
        var copy: Int32 = -1
        do {
            let ledger = try Ledger(directory: directory)
            let path = directory + "/ledger.lock"
            let files = FileManager.default, descriptors = try files.contentsOfDirectory(atPath: "/proc/self/fd")
            let lock = descriptors.compactMap(Int32.init).first {
                (try? files.destinationOfSymbolicLink(atPath: "/proc/self/fd/\($0)")) == path
            }
            copy = dup(try #require(lock))
            #expect(throws: Failure.self) { _ = try Ledger(directory: directory) }
            withExtendedLifetime(ledger) {}
        }
        defer { close(copy) }
        #expect(try Ledger(directory: directory).epoch == 2)
    }

    @Test("after a compaction the same records load, the journal is empty, and the counters go on")
    func compaction() async throws {
        defer { remove() }
        var records = Records()
        do {
            let ledger = try Ledger(directory: directory, compactionThreshold: 10)
            for number in 1...3 {
                let entries = history(job: "job-\(number)", fence: UInt64(number) * 10)
                try await ledger.commit(entries)
                for entry in entries { records.apply(entry) }
            }
            #expect(ledger.needsCompaction)
            try await ledger.compact(records)
            #expect(!ledger.needsCompaction)
            #expect(try ledger.load() == records)
            let more: [LedgerEntry] = [.jobForgotten(job: "job-1")] + history(job: "job-4", fence: 50)
            try await ledger.commit(more)
            for entry in more { records.apply(entry) }
            try await ledger.compact(records)
        }
        let reopened = try Ledger(directory: directory)
        #expect(try reopened.load() == records)
        #expect(records.jobs["job-1"] == nil && records.lastOrdinal == 4 && records.lastFence == 51)
    }

    @Test("a second job for the same idempotency key cannot be written, not even by a confused broker")
    func uniqueKeys() async throws {
        defer { remove() }
        let ledger = try Ledger(directory: directory)
        try await ledger.commit([acceptance("a", key: "k")])
        await #expect(throws: Failure.self) { try await ledger.commit([acceptance("b", key: "k")]) }
        #expect(try ledger.load().order == ["a"])
        try await ledger.commit([.jobForgotten(job: "a"), acceptance("c", key: "k"), acceptance("d", key: "")])
        #expect(try ledger.load().order == ["c", "d"])
    }

    @Test("a batch is written whole or not at all")
    func atomicity() async throws {
        defer { remove() }
        let ledger = try Ledger(directory: directory)
        try await ledger.commit([acceptance("a", key: "k")])
        await #expect(throws: Failure.self) {
            try await ledger.commit([acceptance("b", key: "other"), acceptance("c", key: "k")])
        }
        #expect(try ledger.load().order == ["a"])
    }

    @Test("a second broker on the same directory is refused while the first lives")
    func exclusive() throws {
        defer { remove() }
        let first = try Ledger(directory: directory)
        #expect(code { _ = try Ledger(directory: directory) } == "ledger_in_use")
        withExtendedLifetime(first) {}
    }

    @Test("a damaged file is refused with its path and a remedy")
    func corruption() async throws {
        defer { remove() }
        do {
            let ledger = try Ledger(directory: directory)
            for number in 0..<50 {
                try await ledger.commit(history(job: "job-\(number)", fence: UInt64(number) * 2 + 1))
            }
            try ledger.close()
        }
        let path = directory + "/ledger.sqlite"
        var bytes = try Data(contentsOf: URL(fileURLWithPath: path))
        #expect(bytes.count > 16384)
        for offset in stride(from: 4096, to: bytes.count, by: 512) { bytes[offset] ^= 0xff }
        try bytes.write(to: URL(fileURLWithPath: path))
        let failure = caught { _ = try Ledger(directory: directory).load() }
        #expect(failure?.code == "ledger_corrupt")
        #expect(failure?.message.contains(path) == true)
        #expect(failure?.remedy?.isEmpty == false)
    }

    @Test("a flipped bit inside a value, which SQLite cannot see, is found by the checksum")
    func flippedBit() async throws {
        defer { remove() }
        do {
            let ledger = try Ledger(directory: directory)
            try await ledger.commit([acceptance("unmistakable", key: "")])
            try ledger.close()
        }
        let path = directory + "/ledger.sqlite"
        var bytes = try Data(contentsOf: URL(fileURLWithPath: path))
        let text = Data("\"specification\":\"{}\"".utf8)
        let place = try #require(bytes.range(of: text))
        bytes[place.lowerBound + 17] ^= 0x01
        try bytes.write(to: URL(fileURLWithPath: path))
        #expect(caught { _ = try Ledger(directory: directory).load() }?.code == "ledger_corrupt")
    }

    @Test("a copy put in the place of a damaged ledger, as the manual says, is what loads, and serves on")
    func restore() async throws {
        defer { remove() }
        let backup = directory + "-backup"
        defer { try? FileManager.default.removeItem(atPath: backup) }
        let ledger = try Ledger(directory: directory)
        try await ledger.commit(history(job: "kept", fence: 1))
        let expected = try ledger.load()
        try ledger.close()
        try FileManager.default.copyItem(atPath: directory, toPath: backup)
        let path = directory + "/ledger.sqlite"
        try Data(repeating: 7, count: 8192).write(to: URL(fileURLWithPath: path))
        #expect(caught { _ = try Ledger(directory: directory) }?.code == "ledger_corrupt")
        try FileManager.default.removeItem(atPath: directory)
        try FileManager.default.copyItem(atPath: backup, toPath: directory)
        let restored = try Ledger(directory: directory)
        #expect(try restored.load() == expected)
        try await restored.commit(history(job: "new", fence: 20))
        #expect(try restored.load().order == ["kept", "new"])
    }

    @Test("a job as an earlier release wrote it, without evidence, loads")
    func earlierRelease() throws {
        let record = JobRecord(
            JobAcceptance(
                job: "old", key: SubmissionKey(tenant: "", key: ""), requestDigest: Digest.of([1]), priority: 0,
                specification: "{}",
                tasks: [
                    TaskSpecification(
                        name: "only", stage: "encoder", model: "", parameters: "{}", inputs: [], durableOutputs: true)
                ], unixMilliseconds: 1), ordinal: 1)
        let written = String(decoding: try JSONEncoder().encode(record), as: UTF8.self)
        for name in ["incidents", "failureClasses", "endedBy", "retriedAs", "carried", "retryOf", "evidence"] {
            #expect(!written.contains("\"\(name)\""), "what is absent is not written either")
        }
        #expect(try JSONDecoder().decode(JobRecord.self, from: Data(written.utf8)) == record)
    }

    @Test("no room is ledger_full; nothing of the batch stays, reading goes on, and room made is room used")
    func full() async throws {
        defer { remove() }
        let ledger = try Ledger(directory: directory, maximumBytes: 64 * 1024)
        try await ledger.commit([acceptance("a", key: "")])
        var written = 1
        var failure: Failure?
        while failure == nil, written < 200 {
            do throws(Failure) {
                try await ledger.commit([
                    acceptance("job-\(written)", key: "", specification: String(repeating: "x", count: 8000))
                ])
                written += 1
            } catch {
                failure = error
            }
        }
        #expect(failure?.code == "ledger_full")
        #expect(failure?.message.contains(ledger.path) == true)
        var records = try ledger.load()
        #expect(records.order.count == written)
        for id in records.order.dropFirst() { records.apply(.jobForgotten(job: id)) }
        try await ledger.compact(records)
        try await ledger.probe()
        try await ledger.commit([acceptance("again", key: "")])
        #expect(try ledger.load().order == ["a", "again"])
    }

    @Test("a directory that cannot be made is refused by name")
    func unwritable() {
        #expect(caught { _ = try Ledger(directory: "/proc/nowhere/ledger") }?.code == "ledger_unwritable")
    }

    // MARK: Helpers

    func remove() { try? FileManager.default.removeItem(atPath: directory) }

    func caught(_ body: () throws -> Void) -> Failure? {
        do { try body() } catch { return error as? Failure }
        return nil
    }

    func code(_ body: () throws -> Void) -> String? { caught(body)?.code }

    func acceptance(_ job: String, key: String, specification: String = "{}") -> LedgerEntry {
        let upload = TensorRef(
            digest: digest(1), dtype: .bfloat16, shape: [2, 3],
            locations: [.tcp(address: "::1", port: 7), .ipc(host: "h", socket: "s")])
        let task = TaskSpecification(
            name: "only", stage: "encoder", model: "m", parameters: "{\"prompt\":\"a \\\"sun\\\" / ☀\"}",
            inputs: [TaskInput(name: "in", source: .blob(upload))], durableOutputs: true)
        let next = TaskSpecification(
            name: "next", stage: "decoder", model: "", parameters: "{}",
            inputs: [TaskInput(name: "in", source: .task(name: "only", output: "out"))], durableOutputs: false)
        return .jobAccepted(
            JobAcceptance(
                job: job, key: SubmissionKey(tenant: "t", key: key), requestDigest: digest(2), priority: -3,
                specification: specification, tasks: [task, next], unixMilliseconds: 1_700_000_000_123))
    }

    /// One entry of every kind that leaves the job in place.
    func history(job: String, fence: UInt64) -> [LedgerEntry] {
        let session = SessionID(bytes: [UInt8](repeating: 9, count: 16))!
        let lease = Lease(task: TaskID(job: job, name: "only"), fence: fence)
        let second = Lease(task: TaskID(job: job, name: "only"), fence: fence + 1)
        let ref = TensorRef(digest: digest(3), dtype: .float32, shape: [1, 2], locations: [])
        func grant(_ lease: Lease) -> LedgerEntry {
            .leaseGranted(LeaseGrant(lease: lease, worker: "w", session: session, numerics: "n", unixMilliseconds: 5))
        }
        return [
            acceptance(job, key: job), grant(lease),
            .checkpointCommitted(CheckpointCommit(lease: lease, step: 4, ref: ref)),
            .leaseEnded(
                LeaseEnd(lease: lease, reason: .expired, code: "worker_lost", message: "gone", excludesWorker: true)),
            grant(second),
            .taskCompleted(
                TaskCompletion(
                    lease: second, outputs: [NamedRef(name: "out", ref: ref)], elapsedMilliseconds: 12,
                    notes: ["a note"],
                    unixMilliseconds: 9)),
            .outputsLost(OutputLoss(job: job, producers: ["only"], consumer: nil)),
            .jobEnded(JobEnd(job: job, state: .failed, task: "only", code: "c", message: "m", unixMilliseconds: 11)),
        ]
    }

    func digest(_ byte: UInt8) -> Digest { Digest(bytes: [UInt8](repeating: byte, count: 32))! }
}
