import Bus
import CZeroMQ
import Failure
import FoundationEssentials
import Runtime
import Tensor
import Testing
import Wire

@Suite(.timeLimit(.minutes(1))) struct StoreTests {
    private struct Fixture {
        var cell: Cell
        var store: BlobStore
        var server: DataServer
        var location: Location
        var client: DataClient
        var directory: String { store.directory }
    }

    private func run(capacity: UInt64? = nil, _ body: (Fixture) async throws -> Void) async throws {
        try await Cell.run { cell in
            let store = try BlobStore(directory: "\(cell.runDirectory.path)/store", capacityBytes: capacity)
            let server = DataServer(loop: cell.loop, session: .random(), source: store, sink: store)
            let endpoint = try await server.bind(cell.ipc("store.sock"), insecure: false)
            let location = try #require(endpoint.location(in: cell.runDirectory))
            let client = DataClient(loop: cell.loop, session: .random(), runDirectory: cell.runDirectory)
            try await body(
                Fixture(cell: cell, store: store, server: server, location: location, client: client))
        }
    }

    private func file(_ directory: String, _ digest: Digest) -> String {
        "\(directory)/blobs/\(digest.description.prefix(2))/\(digest)"
    }

    private func leftovers(_ directory: String) throws -> [String] {
        try FileManager.default.contentsOfDirectory(atPath: "\(directory)/incoming")
    }

    @Test(
        "a stored blob lies complete under its digest when STORED comes, and can be fetched",
        arguments: [0, 5, 20 << 20])
    func storeAndFetch(size: Int) async throws {
        try await run { fixture in
            let blob = pattern(size)
            let ref = try await fixture.client.store(blob, at: [fixture.location], timeout: .seconds(20))
            #expect(
                ref.digest == DataClient.digest(of: blob) && ref.shape == [size] && ref.locations == [fixture.location])
            let onDisk = try Data(contentsOf: URL(filePath: file(fixture.directory, ref.digest)))
            #expect(Array(onDisk) == bytes(blob))
            #expect(try leftovers(fixture.directory).isEmpty)
            #expect(fixture.store.totalBytes == UInt64(size))
            #expect(bytes(try await fixture.client.fetch(ref, timeout: .seconds(20))) == bytes(blob))
            // The second time nothing is sent.
            let received = await fixture.server.statistics.receivedBytes
            _ = try await fixture.client.store(blob, at: [fixture.location], timeout: .seconds(20))
            #expect(await fixture.server.statistics.receivedBytes == received)
            #expect(fixture.store.totalBytes == UInt64(size))
        }
    }

    @Test("a blob whose file was damaged is taken again, not said to be here", arguments: [true, false])
    func damagedFile(isTruncated: Bool) async throws {
        try await run { fixture in
            let ref = try await fixture.client.store(pattern(5000), at: [fixture.location], timeout: .seconds(20))
            let path = file(fixture.directory, ref.digest)
            var content = try Data(contentsOf: URL(filePath: path))
            if isTruncated { content.removeLast() } else { content[1234] ^= 1 }
            try content.write(to: URL(filePath: path))
            await expectFailure(isTruncated ? "input_missing" : "digest_mismatch") {
                try await fixture.client.fetch(ref, timeout: .seconds(20))
            }
            _ = try await fixture.client.store(pattern(5000), at: [fixture.location], timeout: .seconds(20))
            #expect(bytes(try await fixture.client.fetch(ref, timeout: .seconds(20))) == bytes(pattern(5000)))
            #expect(fixture.store.totalBytes == 5000)
        }
    }

    @Test("a reopened store has its blobs and nothing that a crash left half written")
    func reopened() async throws {
        try await Cell.run { cell in
            let directory = "\(cell.runDirectory.path)/store"
            let digest: Digest
            do {
                let store = try BlobStore(directory: directory)
                digest = try await store.insert(pattern(1234))
                let busy = #expect(throws: Failure.self) { try BlobStore(directory: directory) }
                #expect(busy?.code == "store_in_use")
            }
            try Data([1, 2, 3]).write(to: URL(filePath: "\(directory)/incoming/half-written"))
            let store = try BlobStore(directory: directory)
            #expect(try leftovers(directory).isEmpty)
            #expect(store.digests == [digest] && store.contains(digest) && store.totalBytes == 1234)
            let blob = try #require(await store.blob(digest))
            #expect(bytes(blob) == bytes(pattern(1234)))
            store.remove(digest)
            store.remove(digest)
            #expect(store.totalBytes == 0)
            #expect(await store.blob(digest) == nil)
            #expect(!FileManager.default.fileExists(atPath: file(directory, digest)))
            // Whoever holds the mapped blob keeps its bytes.
            #expect(bytes(blob) == bytes(pattern(1234)))
        }
    }

    @Test("a store that is full says so and keeps nothing of the blob")
    func full() async throws {
        try await run(capacity: 1000) { fixture in
            await expectFailure("store_full") {
                try await fixture.client.store(pattern(1001), at: [fixture.location], timeout: .seconds(20))
            }
            _ = try await fixture.client.store(pattern(1000), at: [fixture.location], timeout: .seconds(20))
            #expect(fixture.store.totalBytes == 1000)
        }
    }

    @Test("bytes that do not hash to the announced digest are not stored, nor chunks out of order or damaged")
    func hostileProducer() async throws {
        try await run { fixture in
            let content = bytes(pattern(100))
            let honest = Digest.of(content)
            let peer = try BarePeer(ZMQ_DEALER, connect: fixture.cell.ipc("store.sock").description)
            func send(_ message: Message, payload: [UInt8]? = nil) throws {
                let frame = try EnvelopeCodec.encode(envelope(message, inReplyTo: 1))
                peer.send(payload.map { [frame, $0] } ?? [frame])
            }
            func answer() async throws -> Message { try await EnvelopeCodec.decode(peer.receive()[0]).message }
            func chunk(_ digest: Digest, _ offset: UInt64, crc: UInt32? = nil) -> Message {
                let found = content.withUnsafeBytes { Checksum.crc32c($0) }
                return .putChunk(Chunk(digest: digest, offset: offset, length: 100, crc: crc ?? found))
            }
            func expectError(_ code: String) async throws {
                guard case .error(let error) = try await answer() else { throw Failure("no_error", code) }
                #expect(error.code == code)
            }
            func open(_ digest: Digest) async throws {
                try send(.putOpen(PutOpen(digest: digest, size: 100)))
                #expect(try await answer() == .credit(Credit(digest: digest, bytes: 100)))
            }
            let false_ = Digest.of([0])
            try await open(false_)
            try send(chunk(false_, 0), payload: content)
            #expect(try await answer() == .credit(Credit(digest: false_, bytes: 100)))
            try send(.putDone(false_))
            try await expectError("digest_mismatch")

            try await open(honest)
            try send(chunk(honest, 1), payload: content)
            try await expectError("malformed")
            try await open(honest)
            try send(chunk(honest, 0, crc: 7), payload: content)
            try await expectError("bad_crc")
            try await open(honest)
            try send(.putDone(honest))
            try await expectError("malformed")
            try await open(honest)
            try send(.stop(honest))
            try await open(honest)
            try send(chunk(honest, 0), payload: content)
            #expect(try await answer() == .credit(Credit(digest: honest, bytes: 100)))
            try send(.putDone(honest))
            #expect(try await answer() == .stored(honest))
            #expect(fixture.store.digests == [honest])
            while try !leftovers(fixture.directory).isEmpty { await Task.yield() }
            #expect(await fixture.server.statistics.activeTransfers == 0)
        }
    }

    @Test("a blob that is stored and removed at once is there whole or not at all")
    func storedWhileRemoved() async throws {
        try await Cell.run { cell in
            let store = try BlobStore(directory: "\(cell.runDirectory.path)/store")
            let tensor = pattern(10)
            let digest = DataClient.digest(of: tensor)
            for _ in 0..<20 {
                try await withThrowingTaskGroup(of: Void.self) { group in
                    for _ in 0..<6 { group.addTask { try await store.insert(tensor) } }
                    group.addTask {
                        // As soon as one of them has it stored, while others are about to.
                        while !store.contains(digest) { await Task.yield() }
                        store.remove(digest)
                    }
                    try await group.waitForAll()
                }
                #expect(await (store.blob(digest) != nil) == store.contains(digest))
                store.remove(digest)
            }
        }
    }

    @Test("storing waits for a store that is about to start, and fails after the timeout when none does")
    func lateStore() async throws {
        try await Cell.run { cell in
            let client = DataClient(loop: cell.loop, session: .random(), runDirectory: cell.runDirectory)
            let location = Location.ipc(host: cell.runDirectory.hostIdentity, socket: "store.sock")
            await expectFailure("store_unreachable") {
                try await client.store(pattern(10), at: [location], timeout: .milliseconds(50))
            }
            async let stored = client.store(pattern(10), at: [location], timeout: .seconds(30))
            let store = try BlobStore(directory: "\(cell.runDirectory.path)/store")
            let server = DataServer(loop: cell.loop, session: .random(), source: store, sink: store)
            _ = try await server.bind(cell.ipc("store.sock"), insecure: false)
            #expect(store.contains(try await stored.digest))
        }
    }

    @Test("several producers may store one blob at once")
    func concurrentProducers() async throws {
        try await run { fixture in
            let blob = pattern(3 << 20)
            try await withThrowingTaskGroup(of: Void.self) { group in
                for _ in 0..<4 {
                    let client = DataClient(
                        loop: fixture.cell.loop, session: .random(), runDirectory: fixture.cell.runDirectory)
                    group.addTask {
                        _ = try await client.store(blob, at: [fixture.location], timeout: .seconds(20))
                    }
                }
                try await group.waitForAll()
            }
            #expect(fixture.store.totalBytes == 3 << 20)
            #expect(try leftovers(fixture.directory).isEmpty)
        }
    }
}
