import Bus
import CZeroMQ
import Failure
import Runtime
import Tensor
import Testing
import Wire

@Suite(.timeLimit(.minutes(1))) struct DataTests {
    private func server(_ cell: Cell, _ source: any BlobSource, budget: Int = 1 << 30) -> DataServer {
        DataServer(loop: cell.loop, session: .random(), source: source, budgetBytes: budget)
    }

    private func client(_ cell: Cell, window: Int = Limits.defaultWindowBytes) -> DataClient {
        DataClient(loop: cell.loop, session: .random(), runDirectory: cell.runDirectory, windowBytes: window)
    }

    private func bound(_ server: DataServer, _ cell: Cell, _ endpoint: Endpoint) async throws -> Location {
        try #require(try await server.bind(endpoint, insecure: false).location(in: cell.runDirectory))
    }

    @Test(
        "a blob larger than the window arrives whole, and no more than the window is ever under way",
        arguments: [
            (40 << 20, 256 << 10), (40 << 20, 3 << 20), (9_000_001, Limits.defaultWindowBytes), (1, 1 << 20), (0, 1),
        ])
    func fetch(size: Int, window: Int) async throws {
        try await Cell.run { cell in
            let blob = pattern(size)
            let memory = MemoryStore(budgetBytes: 1 << 30)
            memory.insert(blob)
            let server = server(cell, memory)
            let location = try await bound(server, cell, size.isMultiple(of: 2) ? cell.ipc("d.sock") : anyTCPPort)
            let fetched = try await client(cell, window: window).fetch(ref(blob, at: [location]), timeout: .seconds(20))
            #expect(bytes(fetched) == bytes(blob))
            let statistics = await server.statistics
            #expect(statistics.sentBytes == UInt64(size))
            #expect(statistics.peakOutstandingBytes <= window)
            #expect(size < window || statistics.peakOutstandingBytes > window / 2)
        }
    }

    @Test("shape and type of a fetched tensor are those of its reference, and it may be written")
    func tensorForm() async throws {
        try await Cell.run { cell in
            let tensor = Tensor([1, -2, 3.5, 4, 5, 6], shape: [2, 3])
            let memory = MemoryStore(budgetBytes: 1 << 20)
            memory.insert(tensor)
            let location = try await bound(server(cell, memory), cell, anyTCPPort)
            var fetched = try await client(cell).fetch(ref(tensor, at: [location]), timeout: .seconds(20))
            #expect(fetched.shape == [2, 3] && fetched.dtype == .float32)
            fetched.withUnsafeMutableBytes { $0[0] = 1 }
            #expect(bytes(fetched) != bytes(tensor))
        }
    }

    @Test("eight fetches at once share one connection and one budget")
    func concurrent() async throws {
        try await Cell.run { cell in
            let blobs = (0..<8).map { pattern(3 << 20, seed: UInt8($0 + 1)) }
            let memory = MemoryStore(budgetBytes: 1 << 30)
            for blob in blobs { memory.insert(blob) }
            let server = server(cell, memory, budget: 4 << 20)
            let location = try await bound(server, cell, cell.ipc("d.sock"))
            let client = client(cell, window: 1 << 20)
            try await withThrowingTaskGroup(of: Bool.self) { group in
                for blob in blobs {
                    group.addTask {
                        bytes(try await client.fetch(ref(blob, at: [location]), timeout: .seconds(20))) == bytes(blob)
                    }
                }
                for try await isEqual in group { #expect(isEqual) }
            }
            #expect(await client.openLinks == 1)
            let statistics = await server.statistics
            #expect(statistics.peakReservedBytes <= 4 << 20)
            #expect(statistics.turnedAway > 0)
        }
    }

    @Test("a missing blob is looked for at every location and then reported as missing")
    func missing() async throws {
        try await Cell.run { cell in
            let blob = pattern(100)
            let full = MemoryStore(budgetBytes: 1 << 20)
            full.insert(blob)
            let empty = try await bound(server(cell, MemoryStore(budgetBytes: 1)), cell, cell.ipc("a.sock"))
            let holder = try await bound(server(cell, full), cell, anyTCPPort)
            let dead = Location.ipc(host: cell.runDirectory.hostIdentity, socket: "dead.sock")
            let foreign = Location.ipc(host: "another host", socket: "a.sock")
            let client = client(cell)
            await expectFailure("input_missing") {
                try await client.fetch(ref(blob, at: [empty, foreign]), timeout: .seconds(20))
            }
            await expectFailure("input_missing") { try await client.fetch(ref(blob, at: []), timeout: .seconds(20)) }
            await expectFailure("input_missing") {
                try await client.fetch(ref(blob, at: [dead]), timeout: .milliseconds(50))
            }
            let found = try await client.fetch(ref(blob, at: [dead, empty, holder]), timeout: .milliseconds(500))
            #expect(bytes(found) == bytes(blob))
        }
    }

    @Test("bytes that are not those of the digest are refused")
    func wrongBytes() async throws {
        try await Cell.run { cell in
            let blob = pattern(2 << 20)
            let liar = server(cell, LyingSource(tensor: pattern(2 << 20, seed: 99)))
            let location = try await bound(liar, cell, cell.ipc("d.sock"))
            await expectFailure("digest_mismatch") {
                try await client(cell).fetch(ref(blob, at: [location]), timeout: .seconds(20))
            }
            let short = server(cell, LyingSource(tensor: pattern(10)))
            let other = try await bound(short, cell, cell.ipc("s.sock"))
            await expectFailure("input_missing") {
                try await client(cell).fetch(ref(blob, at: [other]), timeout: .seconds(20))
            }
        }
    }

    @Test("a chunk damaged on its way is detected, and the next location serves the blob")
    func damagedChunk() async throws {
        try await Cell.run { cell in
            let blob = pattern(1000)
            let fake = try BarePeer(ZMQ_ROUTER, bind: cell.ipc("fake.sock").description)
            let fakeLocation = Location.ipc(host: cell.runDirectory.hostIdentity, socket: "fake.sock")
            let memory = MemoryStore(budgetBytes: 1 << 20)
            memory.insert(blob)
            let good = try await bound(server(cell, memory), cell, anyTCPPort)
            async let fetched = client(cell).fetch(ref(blob, at: [fakeLocation, good]), timeout: .seconds(20))

            let request = try await fake.receive()
            let asked = try EnvelopeCodec.decode(request[1])
            guard case .get(let get) = asked.message else { throw Failure("no_get", "\(asked)") }
            var damaged = bytes(blob)
            let crc = damaged.withUnsafeBytes { Checksum.crc32c($0) }
            damaged[500] ^= 1
            let chunk = Chunk(digest: get.digest, offset: 0, length: 1000, crc: crc)
            fake.send([
                request[0], try EnvelopeCodec.encode(envelope(.chunk(chunk), inReplyTo: asked.sequence)), damaged,
            ])
            #expect(try await bytes(fetched) == bytes(blob))
            // The holder of damaged bytes is told to stop.
            #expect(try await EnvelopeCodec.decode(fake.receive()[1]).message == .stop(get.digest))
        }
    }

    @Test("a holder that falls silent is given up after the timeout and told to stop")
    func silence() async throws {
        try await Cell.run { cell in
            let blob = pattern(1000)
            let fake = try BarePeer(ZMQ_ROUTER, bind: cell.ipc("fake.sock").description)
            let location = Location.ipc(host: cell.runDirectory.hostIdentity, socket: "fake.sock")
            let client = client(cell)
            let fetched = Task { try await client.fetch(ref(blob, at: [location]), timeout: .milliseconds(80)) }
            _ = try await fake.receive()
            await expectFailure("input_missing") { try await fetched.value }
            guard case .stop = try await EnvelopeCodec.decode(fake.receive()[1]).message else {
                throw Failure("no_stop", "")
            }
        }
    }

    @Test("a cancelled fetch ends at once and the holder forgets it")
    func cancelled() async throws {
        try await Cell.run { cell in
            let blob = pattern(1000)
            let fake = try BarePeer(ZMQ_ROUTER, bind: cell.ipc("fake.sock").description)
            let location = Location.ipc(host: cell.runDirectory.hostIdentity, socket: "fake.sock")
            let client = client(cell)
            let fetching = Task { try await client.fetch(ref(blob, at: [location]), timeout: .seconds(50)) }
            _ = try await fake.receive()
            fetching.cancel()
            await expectFailure("cancelled") { try await fetching.value }
            guard case .stop = try await EnvelopeCodec.decode(fake.receive()[1]).message else {
                throw Failure("no_stop", "")
            }
        }
    }

    @Test("a server that restarts during a fetch serves it after all")
    func restart() async throws {
        try await Cell.run { cell in
            let blob = pattern(1000)
            let memory = MemoryStore(budgetBytes: 1 << 20)
            memory.insert(blob)
            let fake = try BarePeer(ZMQ_ROUTER, bind: cell.ipc("d.sock").description)
            let location = Location.ipc(host: cell.runDirectory.hostIdentity, socket: "d.sock")
            async let fetched = client(cell).fetch(ref(blob, at: [location]), timeout: .seconds(20))
            _ = try await fake.receive()
            fake.close()
            _ = try await bound(server(cell, memory), cell, cell.ipc("d.sock"))
            #expect(try await bytes(fetched) == bytes(blob))
        }
    }

    @Test("requests that no holder could serve are refused without an allocation, junk is answered with an error")
    func hostileRequests() async throws {
        try await Cell.run { cell in
            let memory = MemoryStore(budgetBytes: 1 << 20)
            let digest = memory.insert(pattern(10))
            let server = server(cell, memory)
            let endpoint = try await server.bind(cell.ipc("d.sock"), insecure: false)
            let stranger = try BarePeer(ZMQ_DEALER, connect: endpoint.description)
            func answer(_ frames: [[UInt8]]) async throws -> Message {
                stranger.send(frames)
                return try await EnvelopeCodec.decode(stranger.receive()[0]).message
            }
            func code(_ message: Message) -> String? {
                if case .error(let error) = message { error.code } else { nil }
            }
            func get(_ offset: UInt64, _ length: UInt64, _ window: UInt32) throws -> [[UInt8]] {
                [
                    try EnvelopeCodec.encode(
                        envelope(.get(Get(digest: digest, offset: offset, length: length, window: window))))
                ]
            }
            #expect(code(try await answer(get(0, 10, 0))) == "malformed")
            #expect(code(try await answer(get(.max, 2, 1))) == "malformed")
            #expect(code(try await answer(get(0, 11, 1 << 20))) == "malformed")
            #expect(code(try await answer([Array("junk".utf8)])) == "bad_magic")
            #expect(code(try await answer(get(0, 10, 10) + [[1, 2, 3]])) == "extra_frames")
            #expect(code(try await answer([[1], [2], [3], [4]])) == "extra_frames")
            let open = try EnvelopeCodec.encode(envelope(.putOpen(PutOpen(digest: digest, size: 5))))
            #expect(code(try await answer([open])) == "unexpected")
            guard case .chunk(let chunk) = try await answer(get(4, 6, 1 << 20)) else { throw Failure("no_chunk", "") }
            #expect(chunk.offset == 4 && chunk.length == 6)
            #expect(await server.statistics.protocolErrors == 3)
        }
    }

    @Test("a connection that nobody uses is dropped")
    func idleLinks() async throws {
        try await Cell.run { cell in
            let blob = pattern(10)
            let memory = MemoryStore(budgetBytes: 1 << 20)
            memory.insert(blob)
            let location = try await bound(server(cell, memory), cell, cell.ipc("d.sock"))
            let client = DataClient(
                loop: cell.loop, session: .random(), runDirectory: cell.runDirectory, linkIdleTime: .milliseconds(20))
            for _ in 0..<2 {
                _ = try await client.fetch(ref(blob, at: [location]), timeout: .seconds(20))
                while await client.openLinks > 0 { await Task.yield() }
            }
            #expect(await client.openLinks == 0)
        }
    }

    @Test("the memory store evicts the oldest blobs beyond its budget and keeps the newest")
    func memoryStore() async {
        let store = MemoryStore(budgetBytes: 250)
        let digests = (0..<4).map { store.insert(pattern(100, seed: UInt8($0 + 1))) }
        #expect(store.totalBytes == 200)
        #expect(await store.blob(digests[0]) == nil)
        #expect(await store.blob(digests[1]) == nil)
        #expect(await store.blob(digests[3])?.byteCount == 100)
        store.release(digests[3])
        store.release(digests[3])
        #expect(store.totalBytes == 100)
        let large = store.insert(pattern(1000))
        #expect(store.totalBytes == 1000)
        #expect(await store.blob(large) != nil)
    }
}
