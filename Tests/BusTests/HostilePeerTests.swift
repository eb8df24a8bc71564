import Bus
import CZeroMQ
import Failure
import Runtime
import Tensor
import Testing
import Wire

/// What no client or store of ours would send, and what it must not lead to.
@Suite(.timeLimit(.minutes(1))) struct HostilePeerTests {
    /// Begins nothing before the gate is open; takes everything then.
    private struct GatedSink: BlobSink {
        struct Writer: BlobWriter {
            func write(_ bytes: [UInt8], at offset: UInt64) async throws(Failure) {}
            func commit() async throws(Failure) {}
            func abort() async {}
        }

        let gate: Task<Void, Never>

        func begin(_ digest: Digest, size: UInt64) async throws(Failure) -> (any BlobWriter)? {
            await gate.value
            return Writer()
        }
    }

    private func frame(_ message: Message, inReplyTo: UInt64 = 0) throws -> [UInt8] {
        try EnvelopeCodec.encode(envelope(message, inReplyTo: inReplyTo))
    }

    private func answer(_ peer: BarePeer) async throws -> Message {
        try await EnvelopeCodec.decode(peer.receive()[0]).message
    }

    private func code(_ message: Message) -> String? {
        if case .error(let error) = message { error.code } else { nil }
    }

    @Test("a transfer opened again under the same sequence ends and gives back its share of the budget")
    func openedTwice() async throws {
        try await Cell.run { cell in
            let memory = MemoryStore(budgetBytes: 1 << 20)
            let digest = memory.insert(pattern(1000))
            let server = DataServer(loop: cell.loop, session: .random(), source: memory, budgetBytes: 150)
            let peer = try BarePeer(
                ZMQ_DEALER, connect: try await server.bind(cell.ipc("d.sock"), insecure: false).description)
            let get = try frame(.get(Get(digest: digest, offset: 0, length: 1000, window: 60)))
            for _ in 0..<4 {
                peer.send([get])
                guard case .chunk = try await answer(peer) else { throw Failure("no_chunk", "") }
                peer.send([get])
                #expect(code(try await answer(peer)) == "malformed")
                #expect(await server.statistics.activeTransfers == 0)
            }
        }
    }

    @Test("a peer that stops reading loses its share of the budget to one that reads")
    func deafPeer() async throws {
        try await Cell.run { cell in
            let memory = MemoryStore(budgetBytes: 1 << 20)
            let digest = memory.insert(pattern(1000))
            let server = DataServer(
                loop: cell.loop, session: .random(), source: memory, budgetBytes: 100, deafLimit: .milliseconds(200))
            let endpoint = try await server.bind(cell.ipc("d.sock"), insecure: false).description
            let get = try frame(.get(Get(digest: digest, offset: 0, length: 1000, window: 60)))
            let deaf = try BarePeer(ZMQ_DEALER, connect: endpoint)
            deaf.send([get])
            guard case .chunk = try await answer(deaf) else { throw Failure("no_chunk", "") }
            let other = try BarePeer(ZMQ_DEALER, connect: endpoint)
            // BUSY for as long as the first one may yet be slow and not deaf; without end, were it never taken for deaf.
            while true {
                other.send([get])
                let answer = try await answer(other)
                if case .chunk = answer { break }
                guard case .busy = answer else { throw Failure("unexpected", "\(answer)") }
            }
            #expect(await server.statistics.activeTransfers == 1)
        }
    }

    @Test("what was awaited for a stopped transfer does not reach the next one under the same sequence")
    func reopenedAfterStop() async throws {
        try await Cell.run { cell in
            let (opened, gate) = AsyncStream<Void>.makeStream()
            let sink = GatedSink(gate: Task { for await _ in opened {} })
            let server = DataServer(
                loop: cell.loop, session: .random(), source: MemoryStore(budgetBytes: 1), sink: sink)
            let peer = try BarePeer(
                ZMQ_DEALER, connect: try await server.bind(cell.ipc("d.sock"), insecure: false).description)
            let digest = Digest.of([1])
            let open = try frame(.putOpen(PutOpen(digest: digest, size: 100)))
            let stop = try frame(.stop(digest), inReplyTo: 1)
            for message in [open, stop, open, stop, open] { peer.send([message]) }
            // Messages are taken in order: when this one is answered, all of them have been taken.
            peer.send([[0]])
            #expect(code(try await answer(peer)) == "bad_magic")
            gate.finish()
            #expect(try await answer(peer) == .credit(Credit(digest: digest, bytes: 100)))
            // Time for the others to have their say.
            for _ in 0..<20 {
                peer.send([[0]])
                #expect(code(try await answer(peer)) == "bad_magic")
            }
        }
    }

    @Test("bytes that come before the store gave credit for them are refused and not kept")
    func beyondCredit() async throws {
        try await Cell.run { cell in
            let (opened, gate) = AsyncStream<Void>.makeStream()
            let sink = GatedSink(gate: Task { for await _ in opened {} })
            let server = DataServer(
                loop: cell.loop, session: .random(), source: MemoryStore(budgetBytes: 1), sink: sink)
            let peer = try BarePeer(
                ZMQ_DEALER, connect: try await server.bind(cell.ipc("d.sock"), insecure: false).description)
            let bytes = [UInt8](repeating: 7, count: 100)
            let digest = Digest.of(bytes)
            let crc = bytes.withUnsafeBytes { Checksum.crc32c($0) }
            peer.send([try frame(.putOpen(PutOpen(digest: digest, size: 100)))])
            let chunk = Message.putChunk(Chunk(digest: digest, offset: 0, length: 100, crc: crc))
            peer.send([try frame(chunk, inReplyTo: 1), bytes])
            // Answered even where the chunk is not.
            peer.send([[0]])
            #expect(code(try await answer(peer)) == "malformed")
            #expect(code(try await answer(peer)) == "bad_magic")
            #expect(await server.statistics.activeTransfers == 0)
            gate.finish()
        }
    }

    @Test("an empty chunk is refused, for it takes no credit")
    func emptyChunk() async throws {
        try await Cell.run { cell in
            let store = try BlobStore(directory: "\(cell.runDirectory.path)/store")
            let server = DataServer(loop: cell.loop, session: .random(), source: store, sink: store)
            let peer = try BarePeer(
                ZMQ_DEALER, connect: try await server.bind(cell.ipc("d.sock"), insecure: false).description)
            let digest = Digest.of([1])
            peer.send([try frame(.putOpen(PutOpen(digest: digest, size: 100)))])
            #expect(try await answer(peer) == .credit(Credit(digest: digest, bytes: 100)))
            peer.send([try frame(.putChunk(Chunk(digest: digest, offset: 0, length: 0, crc: 0)), inReplyTo: 1), []])
            #expect(code(try await answer(peer)) == "malformed")
        }
    }

    @Test("credit for no bytes does not end a blob early")
    func emptyCredit() async throws {
        try await Cell.run { cell in
            let endpoint = cell.ipc("store.sock")
            let store = try BarePeer(ZMQ_ROUTER, bind: endpoint.description)
            let client = DataClient(loop: cell.loop, session: .random(), runDirectory: cell.runDirectory)
            let location = try #require(endpoint.location(in: cell.runDirectory))
            async let stored = client.store(pattern(10), at: [location], timeout: .seconds(20))
            let request = try await store.receive()
            let open = try EnvelopeCodec.decode(request[1])
            guard case .putOpen(let wanted) = open.message else { throw Failure("unexpected", "\(open)") }
            func reply(_ message: Message) throws {
                store.send([request[0], try frame(message, inReplyTo: open.sequence)])
            }
            for bytes in [0, 10] as [UInt32] { try reply(.credit(Credit(digest: wanted.digest, bytes: bytes))) }
            let chunk = try EnvelopeCodec.decode(try await store.receive()[1]).message
            guard case .putChunk(let first) = chunk else { throw Failure("unexpected", "\(chunk)") }
            #expect(first.length == 10)
            try reply(.credit(Credit(digest: wanted.digest, bytes: 10)))
            #expect(try await EnvelopeCodec.decode(store.receive()[1]).message == .putDone(wanted.digest))
            try reply(.stored(wanted.digest))
            #expect(try await stored.digest == wanted.digest)
        }
    }
}
