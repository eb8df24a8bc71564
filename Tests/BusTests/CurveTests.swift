import Bus
import CZeroMQ
import Failure
import FoundationEssentials
import Runtime
import Testing
import Wire

/// A control server behind CURVE with two authorised keys; it answers every CLUSTER_QUERY and keeps what else came.
struct KeyedServer {
    let cell: Cell
    let identity: KeyPair
    let security: BusSecurity
    let server: ControlServer
    let endpoint: Endpoint
    let gateway: KeyPair
    let worker: KeyPair

    init(_ cell: Cell) async throws {
        self.cell = cell
        identity = try KeyPair.generate()
        gateway = try KeyPair.generate()
        worker = try KeyPair.generate()
        security = try BusSecurity(loop: cell.loop, identity: identity)
        security.admit([
            Principal(name: "front", role: .gateway, key: gateway.publicKey),
            Principal(name: "gpu", role: .worker, stages: ["denoiser"], key: worker.publicKey),
        ])
        server = ControlServer(loop: cell.loop, session: .random(), epoch: 1, security: security)
        endpoint = try await server.bind(anyTCPPort, insecure: false)
        let server = server
        Task {
            for await (peer, envelope) in server.incoming {
                let empty = ClusterStatus(workers: [], queuedJobs: peer.key == nil ? 1 : 2, runningJobs: 0)
                await server.send(.cluster(empty), to: peer, inReplyTo: envelope.sequence)
            }
        }
    }

    func client(_ identity: KeyPair?, serverKey: PublicKey? = nil, at endpoint: Endpoint? = nil) throws -> ControlClient
    {
        let credentials = identity.map { Credentials(identity: $0, brokerKey: serverKey ?? self.identity.publicKey) }
        return try ControlClient(
            loop: cell.loop, endpoint: endpoint ?? self.endpoint, session: .random(), credentials: credentials)
    }
}

@Suite("Strangers at the control socket", .timeLimit(.minutes(1))) struct CurveTests {
    @Test("an authorised key is served and known by name; the same server serves ipc without one")
    func authorised() async throws {
        try await Cell.run { cell in
            let keyed = try await KeyedServer(cell)
            let answer = try await keyed.client(keyed.gateway).request(.clusterQuery, timeout: .seconds(20))
            guard case .cluster(let status) = answer else { throw Failure("unexpected", "\(answer)") }
            #expect(status.queuedJobs == 2, "the peer's key was not seen")
            let socket = try await keyed.server.bind(cell.ipc("b.sock"), insecure: false)
            let local = try await keyed.client(nil, at: socket).request(.clusterQuery, timeout: .seconds(20))
            #expect(local == .cluster(ClusterStatus(workers: [], queuedJobs: 1, runningJobs: 0)))
            // And the order of the binds does not matter.
            let second = try await keyed.server.bind(anyTCPPort, insecure: false)
            _ = try await keyed.client(keyed.worker, at: second).request(.clusterQuery, timeout: .seconds(20))
            await expectFailure("broker_unreachable") {
                try await keyed.client(nil, at: second).request(.clusterQuery, timeout: .milliseconds(500))
            }
        }
    }

    @Test("a stranger's key, no key at all and a wrong server key get no answer")
    func strangers() async throws {
        try await Cell.run { cell in
            let keyed = try await KeyedServer(cell)
            await expectFailure("key_refused") {
                try await keyed.client(KeyPair.generate()).request(.clusterQuery, timeout: .seconds(2))
            }
            await expectFailure("broker_unreachable") {
                try await keyed.client(nil).request(.clusterQuery, timeout: .seconds(1))
            }
            await expectFailure("broker_unreachable") {
                try await keyed.client(keyed.gateway, serverKey: KeyPair.generate().publicKey)
                    .request(.clusterQuery, timeout: .seconds(1))
            }
            #expect(await keyed.server.counters.received == 0)
            #expect(keyed.security.counters.refusedHandshakes >= 1)
            #expect(keyed.security.counters.admittedHandshakes == 0)
            // No key and a wrong server key never reach the handler of keys.
            await keyed.server.countHandshakes()
            #expect(keyed.security.counters.brokenHandshakes >= 2)
            keyed.security.resetCounters()
            #expect(keyed.security.counters.refusedHandshakes == 0)
        }
    }

    @Test("raw sockets without CURVE, with endless frames and with noise reach nobody")
    func rawStrangers() async throws {
        try await Cell.run { cell in
            let keyed = try await KeyedServer(cell)
            let frame = try EnvelopeCodec.encode(envelope(.clusterQuery))
            let raw = try BarePeer(ZMQ_DEALER, connect: keyed.endpoint.description)
            for _ in 0..<100 { raw.send([frame, frame, frame]) }
            _ = try await keyed.client(keyed.gateway).request(.clusterQuery, timeout: .seconds(20))
            #expect(await keyed.server.counters.received == 1)
            #expect(await keyed.server.counters.protocolErrors == 0)
        }
    }

    @Test("a key that is authorised later gets in without a restart of its owner")
    func authorisedLater() async throws {
        try await Cell.run { cell in
            let keyed = try await KeyedServer(cell)
            let late = try KeyPair.generate()
            let client = try keyed.client(late)
            await expectFailure("key_refused") { try await client.request(.clusterQuery, timeout: .seconds(2)) }
            keyed.security.admit([Principal(name: "late", role: .admin, key: late.publicKey)])
            _ = try await client.request(.clusterQuery, timeout: .seconds(30))
        }
    }

    @Test("nobody listens to a revoked key, on the connection it has or on a new one")
    func revoked() async throws {
        try await Cell.run { cell in
            let keyed = try await KeyedServer(cell)
            let client = try keyed.client(keyed.gateway)
            _ = try await client.request(.clusterQuery, timeout: .seconds(20))
            keyed.security.admit([Principal(name: "gpu", role: .worker, key: keyed.worker.publicKey)])
            await expectFailure("broker_unreachable") { try await client.request(.clusterQuery, timeout: .seconds(1)) }
            #expect(await keyed.server.counters.revoked >= 1)
            await expectFailure("key_refused") {
                try await keyed.client(keyed.gateway).request(.clusterQuery, timeout: .seconds(2))
            }
            _ = try await keyed.client(keyed.worker).request(.clusterQuery, timeout: .seconds(20))
        }
    }

    @Test("each role sends its own messages and no others")
    func roles() async throws {
        try await Cell.run { cell in
            let keyed = try await KeyedServer(cell)
            let lease = Lease(task: TaskID(job: "j", name: "t"), fence: 1)
            let complete = Message.complete(Complete(lease: lease, outputs: [], elapsedMilliseconds: 1, notes: []))
            let submit = Message.submit(
                Submit(
                    idempotencyKey: "k", requestDigest: Digest.of([1]), tenant: "t", priority: 0, specification: "{}",
                    tasks: []))
            func hello(_ stage: String) -> Message {
                .hello(
                    Hello(
                        worker: "w", capabilities: [Capability(stage: stage, model: "")], slots: 1, dataLocations: [],
                        numerics: "n", processID: 1))
            }
            let front = try keyed.client(keyed.gateway)
            let gpu = try keyed.client(keyed.worker)
            await expectFailure("forbidden") { try await front.request(complete, timeout: .seconds(20)) }
            await expectFailure("forbidden") { try await front.request(hello("denoiser"), timeout: .seconds(20)) }
            await expectFailure("forbidden") { try await gpu.request(submit, timeout: .seconds(20)) }
            await expectFailure("forbidden") { try await gpu.request(hello("vae-decoder"), timeout: .seconds(20)) }
            #expect(await keyed.server.counters.forbidden == 4)
            _ = try await front.request(submit, timeout: .seconds(20))
            _ = try await gpu.request(hello("denoiser"), timeout: .seconds(20))
        }
    }

    @Test("a client submits for itself only, and leaves workers alone")
    func clients() {
        let client = Principal(name: "ann", role: .client, key: PublicKey(bytes: Digest.of([1]).bytes)!)
        let admin = Principal(name: "bob", role: .admin, key: client.key)
        func submit(_ tenant: String) -> Message {
            .submit(
                Submit(
                    idempotencyKey: "", requestDigest: Digest.of([1]), tenant: tenant, priority: 0, specification: "",
                    tasks: []))
        }
        #expect(client.objection(to: submit("ann")) == nil && client.objection(to: submit("")) == nil)
        #expect(client.objection(to: submit("eve")) != nil && admin.objection(to: submit("eve")) == nil)
        let drain = Message.drain(Drain(worker: "w", stage: "", broker: false, resume: false))
        #expect(client.objection(to: drain) != nil && admin.objection(to: drain) == nil)
        // A gateway acts for every tenant, but administrates only where it was authorised for that.
        let gateway = Principal(name: "front", role: .gateway, key: client.key)
        #expect(gateway.objection(to: submit("eve")) == nil)
        for message in [drain, .deadQuery(DeadQuery(job: "")), .deadRetry(DeadRetry(job: "j"))] {
            #expect(gateway.objection(to: message)?.contains("role admin") == true, "\(message)")
            #expect(client.objection(to: message) != nil && admin.objection(to: message) == nil, "\(message)")
        }
    }

    @Test("TCP beyond loopback needs a key")
    func bindBeyondLoopback() async throws {
        try await Cell.run { cell in
            let plain = ControlServer(loop: cell.loop, session: .random(), epoch: 1)
            do {
                _ = try await plain.bind(.tcp(host: "0.0.0.0", port: 0), insecure: false)
                Issue.record("bound without a key")
            } catch let error as Failure {
                #expect(error.code == "insecure_endpoint" && error.remedy?.contains("zoetrope keys new") == true)
            }
            let keyed = try await KeyedServer(cell)
            let open = try await keyed.server.bind(.tcp(host: "0.0.0.0", port: 0), insecure: false)
            guard case .tcp(_, let port) = open else { throw Failure("unexpected", "\(open)") }
            let client = try keyed.client(keyed.gateway, at: .tcp(host: "127.0.0.1", port: port))
            _ = try await client.request(.clusterQuery, timeout: .seconds(20))
        }
    }
}

@Suite("The self-test at start", .timeLimit(.minutes(1))) struct SecuritySelfTestTests {
    @Test("a socket behind CURVE and the handler passes")
    func passes() async throws {
        try await Cell.run { cell in
            let keyed = try await KeyedServer(cell)
            try await SecuritySelfTest.run(keyed.endpoint, keyed.security, loop: cell.loop)
            #expect(keyed.security.counters.refusedHandshakes == 1)
        }
    }

    @Test("a socket without CURVE fails it")
    func plainSocket() async throws {
        try await Cell.run { cell in
            let keyed = try await KeyedServer(cell)
            let plain = ControlServer(loop: cell.loop, session: .random(), epoch: 1)
            let endpoint = try await plain.bind(anyTCPPort, insecure: false)
            await expectFailure("security_self_test_failed") {
                try await SecuritySelfTest.run(endpoint, keyed.security, loop: cell.loop, patience: .seconds(2))
            }
        }
    }

    @Test("a socket with CURVE that asks nobody about keys fails it")
    func withoutHandler() async throws {
        try await Cell.run { cell in
            let keyed = try await KeyedServer(cell)
            let open = try OpenCurveSocket(identity: keyed.identity, folder: cell.runDirectory.path)
            await expectFailure("security_self_test_failed") {
                try await SecuritySelfTest.run(
                    .tcp(host: "127.0.0.1", port: open.port.value), keyed.security, loop: cell.loop)
            }
        }
    }
}

/// libzmq's default: CURVE without a ZAP domain admits every key there is.
private struct OpenCurveSocket {
    /// Keeps the socket alive.
    final class Port: @unchecked Sendable {
        let value: UInt16
        private let context: UnsafeMutableRawPointer
        private let socket: UnsafeMutableRawPointer

        init(secret: String) throws {
            context = try #require(zmq_ctx_new())
            socket = try #require(zmq_socket(context, ZMQ_ROUTER))
            var one: Int32 = 1
            try #require(zmq_setsockopt(socket, ZMQ_CURVE_SERVER, &one, 4) == 0)
            try #require(zmq_setsockopt(socket, ZMQ_CURVE_SECRETKEY, secret, 40) == 0)
            try #require(zmq_bind(socket, "tcp://127.0.0.1:*") == 0)
            var text = [CChar](repeating: 0, count: 64)
            var size = text.count
            try #require(zmq_getsockopt(socket, ZMQ_LAST_ENDPOINT, &text, &size) == 0)
            let endpoint = String(decoding: text.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
            value = try #require(endpoint.split(separator: ":").last.flatMap { UInt16($0) })
        }

        deinit {
            zmq_close(socket)
            zmq_ctx_term(context)
        }
    }

    let port: Port

    init(identity: KeyPair, folder: String) throws {
        try identity.save(to: "\(folder)/open.key", publicPath: "\(folder)/open.pub")
        let text = try String(contentsOfFile: "\(folder)/open.key", encoding: .utf8)
        let line = try #require(text.split(separator: "\n").last)
        port = try Port(secret: String(line.dropFirst("secret ".count)))
    }
}
