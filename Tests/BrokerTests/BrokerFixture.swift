import Bus
import BrokerService
import Failure
import Foundation
import Ledger
import Logging
import Runtime
import Wire
import Work

/// A broker in this process on a folder of its own, and a client connected to it.
struct BrokerFixture {
    let directory: String
    let settings: BrokerSettings
    let loop: BusLoop
    let client: ControlClient

    /// - Parameter leaseMilliseconds: long enough that a busy machine ends no lease by itself.
    init(leaseMilliseconds: UInt64 = 60_000) throws {
        directory = "/tmp/zb-\(UUID().uuidString.prefix(13))"
        var settings = BrokerSettings(
            runDirectory: try RunDirectory(path: directory + "/run"), dataDirectory: directory + "/data")
        settings.leaseMilliseconds = leaseMilliseconds
        settings.beatMilliseconds = 60
        self.settings = settings
        loop = try BusLoop(name: "test-bus")
        client = try ControlClient(loop: loop, endpoint: settings.localEndpoint, session: .random())
    }

    func broker(store: (any EntryStore)? = nil) -> Broker {
        var logger = Logger(label: "broker-test")
        logger.logLevel = .critical
        return Broker(settings: settings, logger: logger, store: store)
    }

    func worker(_ name: String, stages: [String] = ["encoder"]) async throws -> FakeWorker {
        let worker = try FakeWorker(loop: loop, endpoint: settings.localEndpoint, name: name, stages: stages)
        await worker.begin()
        return worker
    }

    func remove() async {
        await loop.shutdown()
        try? FileManager.default.removeItem(atPath: directory)
    }

    // MARK: The client

    func submit(key: String = "", body: UInt8 = 1) async throws -> Accepted {
        let task = TaskSpecification(
            name: "only", stage: "encoder", model: "m1", parameters: "{}", inputs: [], durableOutputs: true)
        let submit = Submit(
            idempotencyKey: key, requestDigest: Digest(bytes: [UInt8](repeating: body, count: 32))!, tenant: "t",
            priority: 0, specification: "{}", tasks: [task])
        let answer = try await client.request(.submit(submit), timeout: .seconds(20))
        guard case .accepted(let accepted) = answer else { throw Failure("unexpected", "\(answer)") }
        return accepted
    }

    func status(_ job: String) async throws -> JobStatus {
        let answer = try await client.request(.query(Query(job: job)), timeout: .seconds(20))
        guard case .status(let page) = answer, let status = page.jobs.first else {
            throw Failure("unexpected", "\(answer)")
        }
        return status
    }

    /// Watches the job to its end.
    func end(of job: String) async throws -> JobStatus {
        let answer = try await client.request(.watch(Watch(job: job, revision: 0)), timeout: .seconds(20))
        guard case .event(let now) = answer else { throw Failure("unexpected", "\(answer)") }
        if now.state.isTerminal { return now }
        for await event in client.events {
            guard case .received(let envelope) = event, case .event(let status) = envelope.message else { continue }
            if status.job == job, status.state.isTerminal { return status }
        }
        throw Failure("unexpected", "the connection ended before job \(job) did")
    }
}

extension AsyncStream where Element: Sendable {
    func first() async -> Element? {
        for await element in self { return element }
        return nil
    }
}
