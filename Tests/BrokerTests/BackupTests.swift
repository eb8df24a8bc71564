import Bus
import BrokerService
import Failure
import Foundation
import Runtime
import Tensor
import Testing
import Wire

@Suite("A backup of the data directory", .timeLimit(.minutes(1)))
struct BackupTests {
    @Test("a copy made under a running broker can be started; a second one adds what is new")
    func whileRunning() async throws {
        let fixture = try BrokerFixture()
        let broker = fixture.broker()
        try await broker.start()
        let store = try await BrokerClient(
            loop: fixture.loop, endpoint: fixture.settings.localEndpoint,
            runDirectory: fixture.settings.runDirectory, credentials: nil)
        let worker = try await fixture.worker("steady")
        let job = try await fixture.submit(key: "k").job
        _ = try #require(await worker.starts.first())
        let ref = try await store.upload(Tensor(bytes: [UInt8](repeating: 5, count: 70_000)))

        let folder = fixture.directory + "/backup"
        let first = try Backup.make(of: fixture.settings.dataDirectory, in: folder)
        #expect(first == Backup.Summary(jobs: 1, blobs: 1, bytes: 70_000))
        let late = try await fixture.submit(key: "late").job
        _ = try await store.upload(Tensor(bytes: [1, 2, 3]))
        let second = try Backup.make(of: fixture.settings.dataDirectory, in: folder)
        #expect(second == Backup.Summary(jobs: 2, blobs: 1, bytes: 3))
        await store.close()
        await broker.stop()
        await worker.end()

        // Restored by putting the copy where the data was.
        let files = FileManager.default
        try files.removeItem(atPath: fixture.settings.dataDirectory)
        try files.copyItem(atPath: folder, toPath: fixture.settings.dataDirectory)
        let restored = fixture.broker()
        try await restored.start()
        #expect(try await fixture.submit(key: "k") == Accepted(job: job, replayed: true))
        #expect(try await fixture.status(late).state == .accepted)
        let again = try await BrokerClient(
            loop: fixture.loop, endpoint: fixture.settings.localEndpoint,
            runDirectory: fixture.settings.runDirectory, credentials: nil)
        #expect(try await again.download(ref).byteCount == 70_000)
        await again.close()
        await restored.stop()
        await fixture.remove()
    }

    @Test("a folder without a ledger, the data itself and a damaged ledger give no backup, and keep the one before")
    func refusals() async throws {
        let fixture = try BrokerFixture()
        let data = fixture.settings.dataDirectory
        let folder = fixture.directory + "/backup"
        func code(_ folder: String) -> String? {
            do {
                _ = try Backup.make(of: data, in: folder)
                return nil
            } catch {
                return error.code
            }
        }
        #expect(code(folder) == "ledger_absent")
        let broker = fixture.broker()
        try await broker.start()
        _ = try await fixture.submit()
        await broker.stop()
        #expect(code(data) == "backup_failed")
        #expect(code(folder) == nil, "of a broker that does not run")
        let good = try Data(contentsOf: URL(fileURLWithPath: folder + "/ledger.sqlite"))
        var bytes = try Data(contentsOf: URL(fileURLWithPath: data + "/ledger.sqlite"))
        let body = try #require(bytes.range(of: Data("jobAccepted".utf8)))
        bytes[body.upperBound + 30] ^= 1
        try bytes.write(to: URL(fileURLWithPath: data + "/ledger.sqlite"))
        #expect(code(folder) == "ledger_corrupt")
        #expect(try Data(contentsOf: URL(fileURLWithPath: folder + "/ledger.sqlite")) == good)
        await fixture.remove()
    }
}
