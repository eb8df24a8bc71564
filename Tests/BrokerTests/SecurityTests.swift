import Bus
import BrokerService
import Failure
import Foundation
import Logging
import Runtime
import Testing
import Tensor
import Wire
import Work

/// A broker with keys on TCP, and processes that own some.
private struct KeyedCell {
    let directory: String
    let loop: BusLoop
    let broker: Broker
    let identity: KeyPair
    let gateway: KeyPair
    let administrator: KeyPair
    let worker: KeyPair
    let other: KeyPair
    let endpoint: Endpoint
    let authorizedPath: String

    static func run(_ body: (KeyedCell) async throws -> Void) async throws {
        let cell = try await KeyedCell()
        do {
            try await body(cell)
        } catch {
            await cell.remove()
            throw error
        }
        await cell.remove()
    }

    private init() async throws {
        directory = "/tmp/zs-\(UUID().uuidString.prefix(13))"
        let runDirectory = try RunDirectory(path: directory + "/run")
        var settings = BrokerSettings(runDirectory: runDirectory, dataDirectory: directory + "/data")
        settings.listen = [.tcp(host: "127.0.0.1", port: 0)]
        // No lease ends by itself within a test.
        settings.leaseMilliseconds = 60_000
        settings.beatMilliseconds = 60
        settings.keyFile = directory + "/broker.key"
        authorizedPath = directory + "/authorized-keys"
        identity = try KeyPair.generate()
        gateway = try KeyPair.generate()
        administrator = try KeyPair.generate()
        worker = try KeyPair.generate()
        other = try KeyPair.generate()
        try identity.save(to: directory + "/broker.key", publicPath: directory + "/broker.pub")
        try AuthorizedKeys(principals: [
            Principal(name: "front", role: .gateway, key: gateway.publicKey),
            Principal(name: "boss", role: .admin, key: administrator.publicKey),
            Principal(name: "one", role: .worker, stages: ["encoder"], key: worker.publicKey),
            Principal(name: "two", role: .worker, key: other.publicKey),
        ]).write(to: authorizedPath)
        var logger = Logger(label: "broker-test")
        logger.logLevel = .critical
        broker = Broker(settings: settings, logger: logger)
        let addresses = try await broker.start()
        endpoint = try Endpoint(parsing: try #require(addresses.control.last))
        loop = try BusLoop(name: "test-bus")
    }

    private func remove() async {
        await broker.stop()
        await loop.shutdown()
        try? FileManager.default.removeItem(atPath: directory)
    }

    func credentials(_ pair: KeyPair) -> Credentials { Credentials(identity: pair, brokerKey: identity.publicKey) }

    func client(_ pair: KeyPair, session: SessionID = .random()) throws -> ControlClient {
        try ControlClient(loop: loop, endpoint: endpoint, session: session, credentials: credentials(pair))
    }

    /// A worker up to its first assignment.
    func busyWorker(_ pair: KeyPair, session: SessionID) async throws -> (client: ControlClient, assign: Assign) {
        let client = try client(pair, session: session)
        _ = try await client.request(hello(pair), timeout: .seconds(20))
        await client.send(.beat(Beat(freeSlots: 1, running: [], storeBytes: 0)))
        for await event in client.events {
            if case .received(let envelope) = event, case .assign(let assign) = envelope.message {
                return (client, assign)
            }
        }
        throw Failure("ended", "no assignment")
    }

    func hello(_ pair: KeyPair, stage: String = "encoder") -> Message {
        .hello(
            Hello(
                worker: "w", capabilities: [Capability(stage: stage, model: "m1")], slots: 1,
                dataLocations: [.curve(address: "127.0.0.1", port: 9, key: pair.publicKey)], numerics: "n",
                processID: 1))
    }

    func submit(input: TensorRef? = nil) async throws -> String {
        let inputs = input.map { [TaskInput(name: "in", source: .blob($0))] } ?? []
        let task = TaskSpecification(
            name: "only", stage: "encoder", model: "m1", parameters: "{}", inputs: inputs, durableOutputs: true)
        let submit = Submit(
            idempotencyKey: "", requestDigest: Digest.of([1]), tenant: "t", priority: 0, specification: "{}",
            tasks: [task])
        let answer = try await client(gateway).request(.submit(submit), timeout: .seconds(20))
        guard case .accepted(let accepted) = answer else { throw Failure("unexpected", "\(answer)") }
        return accepted.job
    }

    func expect(
        _ code: String, _ client: ControlClient, _ message: Message, timeout: Duration = .seconds(20),
        _ location: SourceLocation = #_sourceLocation
    ) async {
        do {
            let answer = try await client.request(message, timeout: timeout)
            Issue.record("expected \(code), got \(answer)", sourceLocation: location)
        } catch {
            #expect(error.code == code, "\(error)", sourceLocation: location)
        }
    }
}

@Suite("A broker with keys", .timeLimit(.minutes(1)))
struct SecurityTests {
    @Test("blobs go to the store and come back behind CURVE, with tickets")
    func storeOverCurve() async throws {
        try await KeyedCell.run { cell in
            // Another run directory: nothing can go over ipc.
            let elsewhere = try RunDirectory(path: cell.directory + "/elsewhere")
            let client = try await BrokerClient(
                loop: cell.loop, endpoint: cell.endpoint, runDirectory: elsewhere,
                credentials: cell.credentials(cell.gateway))
            let tensor = Tensor(bytes: [UInt8](repeating: 7, count: 3_000_000))
            let ref = try await client.upload(tensor)
            #expect(ref.locations.contains { if case .curve = $0 { true } else { false } })
            #expect(try await client.download(ref).byteCount == 3_000_000)
            await client.close()
        }
    }

    @Test("a worker gets a ring of keys, and tickets for the blobs of its lease only")
    func tickets() async throws {
        try await KeyedCell.run { cell in
            let digest = Digest.of([5])
            let input = TensorRef(digest: digest, dtype: .uint8, shape: [1], locations: [])
            _ = try await cell.submit(input: input)
            let (client, assign) = try await cell.busyWorker(cell.worker, session: .random())
            func wish(
                _ direction: TicketTerms.Direction, _ digest: Digest, lease: Lease?, holder: KeyPair? = nil,
                consumer: KeyPair? = nil
            ) -> Message {
                let terms = TicketTerms(
                    direction: direction, digest: digest, consumer: (consumer ?? cell.worker).publicKey)
                return .ticketRequest(
                    TicketRequest(terms: terms, holder: (holder ?? cell.identity).publicKey, lease: lease))
            }
            let answer = try await client.request(wish(.get, digest, lease: assign.lease), timeout: .seconds(20))
            guard case .ticket(let ticket) = answer else { throw Failure("unexpected", "\(answer)") }
            #expect(ticket.fence == assign.lease.fence)
            let terms = TicketTerms(direction: .get, digest: digest, consumer: cell.worker.publicKey)
            let key = cell.identity.ticketMaster.derived(for: cell.identity.publicKey)
            try key.check(ticket, terms, nowUnixMilliseconds: ticket.expiresAtUnixMilliseconds - 1)
            _ = try await client.request(wish(.put, Digest.of([6]), lease: assign.lease), timeout: .seconds(20))

            var stale = assign.lease
            stale.fence += 1
            await cell.expect("forbidden", client, wish(.get, Digest.of([6]), lease: assign.lease))
            await cell.expect("forbidden", client, wish(.get, digest, lease: stale))
            await cell.expect("forbidden", client, wish(.get, digest, lease: nil))
            await cell.expect("forbidden", client, wish(.put, digest, lease: assign.lease, holder: cell.other))
            await cell.expect("forbidden", client, wish(.get, digest, lease: assign.lease, consumer: cell.other))
            let rival = try cell.client(cell.other)
            _ = try await rival.request(cell.hello(cell.other), timeout: .seconds(20))
            await cell.expect(
                "forbidden", rival, wish(.get, digest, lease: assign.lease, consumer: cell.other))
            for await event in rival.events {
                guard case .received(let envelope) = event, case .keyRing(let ring) = envelope.message else { continue }
                let owners = [cell.gateway, cell.administrator, cell.worker, cell.other]
                #expect(Set(ring.keys) == Set(owners.map(\.publicKey)))
                #expect(ring.ticketKey == cell.identity.ticketMaster.derived(for: cell.other.publicKey))
                break
            }
        }
    }

    @Test("nobody speaks for the session of another key, nor announces another's data socket, nor another stage")
    func sessions() async throws {
        try await KeyedCell.run { cell in
            let session = SessionID.random()
            _ = try await cell.submit()
            let (_, assign) = try await cell.busyWorker(cell.worker, session: session)
            let thief = try cell.client(cell.other, session: session)
            let complete = Complete(lease: assign.lease, outputs: [], elapsedMilliseconds: 1, notes: [])
            await cell.expect("forbidden", thief, .complete(complete))
            await cell.expect("forbidden", try cell.client(cell.worker), cell.hello(cell.other))
            await cell.expect("forbidden", try cell.client(cell.worker), cell.hello(cell.worker, stage: "denoiser"))
        }
    }

    @Test("a revoked key loses its leases to another worker at once and is not heard again")
    func revocation() async throws {
        try await KeyedCell.run { cell in
            _ = try await cell.submit()
            let (client, lost) = try await cell.busyWorker(cell.worker, session: .random())
            var keys = try AuthorizedKeys(file: cell.authorizedPath)
            _ = try keys.revoke("one")
            try keys.write(to: cell.authorizedPath)
            let (_, again) = try await cell.busyWorker(cell.other, session: .random())
            #expect(again.lease.task == lost.lease.task && again.lease.fence > lost.lease.fence)
            do {
                _ = try await client.request(.clusterQuery, timeout: .seconds(1))
                Issue.record("a revoked key was answered")
            } catch let error as Failure {
                #expect(error.code == "broker_unreachable" || error.code == "key_refused")
            }
            await cell.expect("key_refused", try cell.client(cell.worker), .clusterQuery, timeout: .seconds(2))
        }
    }

    @Test("the broker tells what it has turned away, by reason, and none of its own self-test")
    func counts() async throws {
        try await KeyedCell.run { cell in
            let admin = try cell.client(cell.administrator)
            func counts() async throws -> [String: UInt64] {
                guard case .cluster(let status) = try await admin.request(.clusterQuery, timeout: .seconds(20)) else {
                    throw Failure("unexpected", "no CLUSTER")
                }
                return Dictionary(uniqueKeysWithValues: status.counts.map { ($0.name, $0.value) })
            }
            let first = try await counts()
            #expect(Set(first.keys) == Set(BrokerCount.allCases.map(\.rawValue)))
            #expect(first.filter { $0.key.hasPrefix("refused_") && $0.value > 0 }.isEmpty, "\(first)")
            #expect(first["handshakes_admitted"] == 1 && first["sessions_revoked"] == 0)
            let used = try #require(first["descriptors_used"])
            #expect(first["descriptors_limit", default: 0] > used && used > 3)

            await cell.expect("key_refused", try cell.client(KeyPair.generate()), .clusterQuery, timeout: .seconds(2))
            await cell.expect("forbidden", try cell.client(cell.gateway), .drain(Drain(broker: true)))
            _ = try await admin.request(.drain(Drain(broker: true, resume: true)), timeout: .seconds(20))
            await cell.expect("forbidden", try cell.client(cell.worker), cell.hello(cell.other))
            let terms = TicketTerms(direction: .get, digest: .of([1]), consumer: cell.worker.publicKey)
            await cell.expect(
                "forbidden", try cell.client(cell.worker),
                .ticketRequest(TicketRequest(terms: terms, holder: cell.identity.publicKey, lease: nil)))
            let then = try await counts()
            // A request is repeated where its answer takes long.
            for name in ["refused_key", "refused_role", "refused_session", "refused_ticket_request"] {
                #expect(then[name, default: 0] >= 1, "\(name): \(then)")
            }
            #expect(then["refused_frame"] == 0 && then["refused_overload"] == 0)
        }
    }

    @Test("a torn list of keys changes nothing, the next good one counts")
    func tornList() async throws {
        try await KeyedCell.run { cell in
            try "not a list".write(toFile: cell.authorizedPath, atomically: true, encoding: .utf8)
            let late = try KeyPair.generate()
            let client = try cell.client(late)
            // Long enough for the broker to have looked at the torn list.
            await #expect(throws: Failure.self) { try await client.request(.clusterQuery, timeout: .seconds(2)) }
            _ = try await cell.client(cell.gateway).request(.clusterQuery, timeout: .seconds(20))
            try AuthorizedKeys(principals: [Principal(name: "late", role: .admin, key: late.publicKey)])
                .write(to: cell.authorizedPath)
            _ = try await client.request(.clusterQuery, timeout: .seconds(30))
        }
    }

    @Test("a broker does not start with a key that others can read, nor beyond loopback without one")
    func refusals() async throws {
        let directory = "/tmp/zs-\(UUID().uuidString.prefix(13))"
        defer { try? FileManager.default.removeItem(atPath: directory) }
        var settings = BrokerSettings(
            runDirectory: try RunDirectory(path: directory + "/run"), dataDirectory: directory + "/data")
        settings.listen = [.tcp(host: "0.0.0.0", port: 0)]
        settings.advertiseHost = "127.0.0.1"
        func code() async -> String? {
            do {
                let broker = Broker(settings: settings, logger: Logger(label: "broker-test"))
                try await broker.start()
                await broker.stop()
                return nil
            } catch {
                return error.code
            }
        }
        #expect(await code() == "insecure_endpoint")
        try KeyPair.generate().save(to: directory + "/b.key", publicPath: directory + "/b.pub")
        settings.keyFile = directory + "/b.key"
        #expect(await code() == "key_file_unreadable", "there is no list of authorised keys")
        try AuthorizedKeys().write(to: directory + "/authorized-keys")
        #expect(await code() == nil)
        chmod(directory + "/b.key", 0o640)
        #expect(await code() == "key_file_exposed")
    }
}
