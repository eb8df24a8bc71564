import Bus
import Failure
import Runtime
import Tensor
import Testing
import Wire

@Suite("Blobs behind CURVE need a ticket", .timeLimit(.minutes(1))) struct TicketTests {
    /// A holder behind CURVE with one blob, and a consumer whose tickets the test writes.
    private struct Desk {
        let cell: Cell
        let holder: KeyPair
        let consumer: KeyPair
        let key: TicketKey
        let security: BusSecurity
        let server: DataServer
        let location: Location
        let ref: TensorRef

        init(_ cell: Cell) async throws {
            self.cell = cell
            holder = try KeyPair.generate()
            consumer = try KeyPair.generate()
            key = TicketKey.master(secret: [1]).derived(for: holder.publicKey)
            security = try BusSecurity(loop: cell.loop, identity: holder)
            security.adopt(KeyRing(keys: [consumer.publicKey], ticketKey: key, unixMilliseconds: 1_000_000))
            let memory = MemoryStore(budgetBytes: 1 << 20)
            let blob = pattern(100_000)
            memory.insert(blob)
            let store = try BlobStore(directory: "\(cell.runDirectory.path)/store")
            server = DataServer(
                loop: cell.loop, session: .random(), source: memory, sink: store, security: security)
            let endpoint = try await server.bind(anyTCPPort, insecure: false)
            location = try #require(endpoint.location(in: cell.runDirectory)).keyed(holder.publicKey)
            ref = TensorRef(
                digest: DataClient.digest(of: blob), dtype: .uint8, shape: [100_000], locations: [location])
        }

        /// A consumer that presents what `issue` makes of each request.
        func client(
            as identity: KeyPair? = nil, _ issue: @escaping @Sendable (TicketRequest) -> Ticket
        ) -> DataClient {
            DataClient(
                loop: cell.loop, session: .random(), runDirectory: cell.runDirectory,
                access: DataAccess(identity: identity ?? consumer) { (request) throws(Failure) in issue(request) })
        }

        func issue(_ request: TicketRequest) -> Ticket {
            key.issue(request.terms, fence: 3, expiresAtUnixMilliseconds: 1_060_000)
        }
    }

    @Test("with its ticket a blob is fetched and stored")
    func permitted() async throws {
        try await Cell.run { cell in
            let desk = try await Desk(cell)
            let client = desk.client { desk.issue($0) }
            #expect(try await client.fetch(desk.ref, timeout: .seconds(20)).byteCount == 100_000)
            let stored = try await client.store(pattern(5000, seed: 9), at: [desk.location], timeout: .seconds(20))
            #expect(stored.locations == [desk.location])
            #expect(await desk.server.statistics.refusedTickets == 0)
        }
    }

    @Test("a digest alone, an expired ticket and one for another blob, way, consumer or holder open nothing")
    func refused() async throws {
        try await Cell.run { cell in
            let desk = try await Desk(cell)
            let bad: [@Sendable (TicketRequest) -> Ticket] = [
                { desk.key.issue($0.terms, fence: 3, expiresAtUnixMilliseconds: 999_999) },
                { request in
                    var terms = request.terms
                    terms.digest = Digest.of([7])
                    return desk.key.issue(terms, fence: 3, expiresAtUnixMilliseconds: 1_060_000)
                },
                { request in
                    var terms = request.terms
                    terms.direction = .put
                    return desk.key.issue(terms, fence: 3, expiresAtUnixMilliseconds: 1_060_000)
                },
                { request in
                    var terms = request.terms
                    terms.consumer = desk.holder.publicKey
                    return desk.key.issue(terms, fence: 3, expiresAtUnixMilliseconds: 1_060_000)
                },
                { TicketKey.master(secret: [1]).issue($0.terms, fence: 3, expiresAtUnixMilliseconds: 1_060_000) },
            ]
            for issue in bad {
                await expectFailure("input_missing") {
                    try await desk.client(issue).fetch(desk.ref, timeout: .seconds(20))
                }
            }
            #expect(await desk.server.statistics.refusedTickets >= UInt64(bad.count))
            #expect(await desk.server.statistics.sentBytes == 0)
        }
    }

    @Test("a key that the holder does not know, or no longer, gets no connection")
    func unknownConsumer() async throws {
        try await Cell.run { cell in
            let desk = try await Desk(cell)
            let stranger = try KeyPair.generate()
            await expectFailure("input_missing") {
                try await desk.client(as: stranger) { desk.issue($0) }.fetch(desk.ref, timeout: .seconds(2))
            }
            let client = desk.client { desk.issue($0) }
            _ = try await client.fetch(desk.ref, timeout: .seconds(20))
            desk.security.adopt(KeyRing(keys: [], ticketKey: desk.key, unixMilliseconds: 1_000_000))
            await expectFailure("input_missing") { try await client.fetch(desk.ref, timeout: .seconds(1)) }
            #expect(await desk.server.statistics.revoked >= 1)
        }
    }

    @Test("a process with a key goes to no holder over TCP without CURVE")
    func plainLocation() async throws {
        try await Cell.run { cell in
            let desk = try await Desk(cell)
            var ref = desk.ref
            ref.locations = [.tcp(address: "127.0.0.1", port: 9)]
            await expectFailure("input_missing") {
                try await desk.client { desk.issue($0) }.fetch(ref, timeout: .seconds(20))
            }
            #expect(await desk.server.statistics.refusedTickets == 0)
        }
    }
}
