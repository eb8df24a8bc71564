import Bus
import CZeroMQ
import Failure
import Runtime
import Tensor
import Testing
import Wire

/// Loops, servers and clients that live for a moment, many at once: descriptors and thread ids are used again at once,
/// so whoever touches a loop that is gone hits somebody else's.
@Suite(.timeLimit(.minutes(1))) struct LifetimeTests {
    private func together(_ tasks: Int, rounds: Int, _ body: @escaping @Sendable () async throws -> Void) async throws {
        try await withThrowingTaskGroup(of: Void.self) { group in
            for _ in 0..<tasks {
                group.addTask { for _ in 0..<rounds { try await body() } }
            }
            try await group.waitForAll()
        }
    }

    @Test("loops that are dropped the moment their last job has run disturb no other loop")
    func droppedLoops() async throws {
        try await together(24, rounds: 60) {
            // The only reference goes when the call returns; this loop was never shut down and has no sockets.
            let sent = await ControlServer(loop: try BusLoop(name: "short"), session: .random(), epoch: 1).counters.sent
            #expect(sent == 0)
            // The mailboxes of this one take the descriptors that others have just given back.
            let loop = try BusLoop(name: "victim")
            let server = ControlServer(loop: loop, session: .random(), epoch: 1)
            _ = try await server.bind(anyTCPPort, insecure: false)
            await loop.shutdown()
        }
    }

    @Test("a client that is made while its loop shuts down is closed with it")
    func clientsDuringShutdown() async throws {
        try await together(4, rounds: 100) {
            let loop = try BusLoop(name: "closing")
            let nobody = Endpoint.ipc(path: "/tmp/zoetrope-bus-tests-nobody.sock")
            async let closed: Void = loop.shutdown()
            let client: ControlClient?
            do throws(Failure) {
                client = try ControlClient(loop: loop, endpoint: nobody, session: .random())
            } catch {
                #expect(error.code == "bus_closed")
                client = nil
            }
            await closed
            guard let client else { return }
            await expectFailure("bus_closed") { try await client.request(.clientHello, timeout: .seconds(30)) }
        }
    }

    @Test("requests, cancellations and shutdowns at once leave no caller waiting")
    func shutdownDuringRequests() async throws {
        try await together(4, rounds: 25) {
            try await Cell.run { cell in
                let server = ControlServer(loop: cell.loop, session: .random(), epoch: 1)
                let endpoint = try await server.bind(cell.ipc("broker.sock"), insecure: false)
                let answering = Task {
                    for await (peer, envelope) in server.incoming where envelope.sequence % 3 != 0 {
                        await server.send(.needHello, to: peer, inReplyTo: envelope.sequence)
                    }
                }
                let requests = try (0..<8).map { number in
                    let client = try ControlClient(loop: cell.loop, endpoint: endpoint, session: .random())
                    return Task {
                        for _ in 0..<8 { _ = try await client.request(.clientHello, timeout: .milliseconds(20)) }
                    }
                }
                for (number, request) in requests.enumerated() where number % 4 == 0 { request.cancel() }
                _ = await requests[1].result
                await cell.loop.shutdown()
                for request in requests { _ = await request.result }
                await answering.value
            }
        }
    }

    @Test("transfers, cancellations and shutdowns at once leave no caller waiting")
    func shutdownDuringTransfers() async throws {
        try await together(3, rounds: 12) {
            try await Cell.run { cell in
                let store = try BlobStore(directory: "\(cell.runDirectory.path)/store")
                let blob = pattern(3 << 20)
                let digest = try await store.insert(blob)
                let server = DataServer(loop: cell.loop, session: .random(), source: store, sink: store)
                let endpoint = try await server.bind(cell.ipc("store.sock"), insecure: false)
                let location = try #require(endpoint.location(in: cell.runDirectory))
                let client = DataClient(loop: cell.loop, session: .random(), runDirectory: cell.runDirectory)
                let wanted = TensorRef(digest: digest, dtype: .uint8, shape: [blob.count], locations: [location])
                let transfers = (0..<8).map { number in
                    Task {
                        if number % 2 == 0 { return try await client.fetch(wanted, timeout: .seconds(20)).count }
                        let other = pattern(2 << 20, seed: UInt8(number))
                        return try await client.store(other, at: [location], timeout: .seconds(20)).shape[0]
                    }
                }
                for (number, transfer) in transfers.enumerated() where number % 4 == 3 { transfer.cancel() }
                _ = await transfers[0].result
                await cell.loop.shutdown()
                for transfer in transfers { _ = await transfer.result }
            }
        }
    }
}
