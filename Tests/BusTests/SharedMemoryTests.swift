import Bus
import CPlatform
import CZeroMQ
import Failure
import Glibc
import Runtime
import Tensor
import Testing
import Wire

/// A holder that lends memory, and a consumer on the same host.
struct LendingPair {
    let memory = MemoryStore(budgetBytes: 1 << 30)
    let server: DataServer
    let client: DataClient
    let location: Location

    init(
        _ cell: Cell, budget: Int = 64 << 20, lease: Duration = .seconds(30), idle: Duration = .seconds(60)
    ) async throws {
        server = DataServer(loop: cell.loop, session: .random(), source: memory)
        client = DataClient(
            loop: cell.loop, session: .random(), runDirectory: cell.runDirectory, linkIdleTime: idle)
        location = try #require(
            try await server.bind(cell.ipc("d.sock"), insecure: false).location(in: cell.runDirectory))
        try await server.lendMemory(
            through: cell.runDirectory.socketPath("memory-d.sock"), budgetBytes: budget, lease: lease)
    }

    func fetch(_ blob: Tensor) async throws -> Tensor {
        try await client.fetch(ref(blob, at: [location]), timeout: .seconds(20))
    }

    /// Waits until the holder's numbers are as wanted.
    func reach(_ isReached: (DataServer.Statistics) -> Bool) async throws {
        let deadline = ContinuousClock.now + .seconds(20)
        while !isReached(await server.statistics) {
            guard .now < deadline else { throw Failure("not_reached", "\(await server.statistics)") }
            await Task.yield()
        }
    }
}

@Suite("Shared memory", .timeLimit(.minutes(1))) struct SharedMemoryTests {
    @Test("a blob comes whole through shared memory, and its place is free again", arguments: [16 << 10, 9_000_001])
    func roundTrip(size: Int) async throws {
        try await Cell.run { cell in
            let pair = try await LendingPair(cell)
            let blob = pattern(size)
            pair.memory.insert(blob)
            for round in 1...3 {
                var fetched = try await pair.fetch(blob)
                #expect(bytes(fetched) == bytes(blob))
                // What was fetched is the consumer's own.
                fetched.withUnsafeMutableBytes { $0[0] = $0[0] &+ 1 }
                let counters = pair.client.fetched
                #expect(counters.memoryBlobs == UInt64(round) && counters.memoryBytes == UInt64(round * size))
                #expect(counters.socketBlobs == 0 && counters.fallbacks == 0)
            }
            try await pair.reach { $0.lentNow == 0 && $0.activeTransfers == 0 }
            let statistics = await pair.server.statistics
            #expect(statistics.sentBytes == 0 && statistics.lentBlobs == 3 && statistics.memoryChannels == 1)
            #expect(statistics.memoryBytes < size + 4096, "the same place serves every time")
        }
    }

    @Test("small blobs go over the socket, and so does everything of a consumer or a holder that shares nothing")
    func smallAndOff() async throws {
        try await Cell.run { cell in
            let pair = try await LendingPair(cell)
            let small = pattern(16_383)
            let large = pattern(300_000)
            for blob in [small, large] { pair.memory.insert(blob) }
            #expect(try await bytes(pair.fetch(small)) == bytes(small))
            let aloof = DataClient(
                loop: cell.loop, session: .random(), runDirectory: cell.runDirectory, sharesMemory: false)
            let fetched = try await aloof.fetch(ref(large, at: [pair.location]), timeout: .seconds(20))
            #expect(bytes(fetched) == bytes(large))
            #expect(pair.client.fetched.socketBlobs == 1 && aloof.fetched.socketBlobs == 1)
            let plain = DataServer(loop: cell.loop, session: .random(), source: pair.memory)
            let there = try #require(
                try await plain.bind(cell.ipc("p.sock"), insecure: false).location(in: cell.runDirectory))
            _ = try await pair.client.fetch(ref(large, at: [there]), timeout: .seconds(20))
            #expect(pair.client.fetched == FetchCounters(socketBlobs: 2, socketBytes: 316_383))
            #expect(await pair.server.statistics.memoryChannels == 0)
        }
    }

    @Test("many fetches at once share one memory, within its budget; what does not fit goes over the socket")
    func concurrent() async throws {
        try await Cell.run { cell in
            let pair = try await LendingPair(cell, budget: 8 << 20)
            let blobs = (0..<12).map { pattern(3 << 20, seed: UInt8($0 + 1)) }
            for blob in blobs { pair.memory.insert(blob) }
            try await withThrowingTaskGroup(of: Bool.self) { group in
                for blob in blobs { group.addTask { try await bytes(pair.fetch(blob)) == bytes(blob) } }
                for try await isEqual in group { #expect(isEqual) }
            }
            let statistics = await pair.server.statistics
            #expect(statistics.memoryChannels == 1 && statistics.memoryBytes <= 8 << 20)
            let counters = pair.client.fetched
            #expect(counters.memoryBlobs >= 1 && counters.memoryBlobs + counters.socketBlobs == 12)
            #expect(counters.fallbacks == statistics.memoryFull)
        }
    }

    @Test("a blob larger than the budget goes over the socket, and is counted")
    func exhausted() async throws {
        try await Cell.run { cell in
            let pair = try await LendingPair(cell, budget: 1 << 20)
            let large = pattern(4 << 20)
            let small = pattern(1 << 20, seed: 3)
            for blob in [large, small] { pair.memory.insert(blob) }
            #expect(try await bytes(pair.fetch(large)) == bytes(large))
            #expect(pair.client.fetched == FetchCounters(socketBlobs: 1, socketBytes: 4 << 20, fallbacks: 1))
            #expect(await pair.server.statistics.memoryFull == 1)
            // What fits exactly still fits.
            #expect(try await bytes(pair.fetch(small)) == bytes(small))
            #expect(pair.client.fetched.memoryBlobs == 1)
        }
    }

    @Test("a blob that is not here, or whose bytes are others, is not there through memory either")
    func missingAndWrong() async throws {
        try await Cell.run { cell in
            let pair = try await LendingPair(cell)
            await expectFailure("input_missing") { try await pair.fetch(pattern(100_000)) }
            let liar = DataServer(
                loop: cell.loop, session: .random(), source: LyingSource(tensor: pattern(200_000, seed: 9)))
            let there = try #require(
                try await liar.bind(cell.ipc("l.sock"), insecure: false).location(in: cell.runDirectory))
            try await liar.lendMemory(through: cell.runDirectory.socketPath("memory-l.sock"), budgetBytes: 1 << 20)
            await expectFailure("digest_mismatch") {
                try await pair.client.fetch(ref(pattern(200_000), at: [there]), timeout: .seconds(20))
            }
            #expect(pair.client.fetched == FetchCounters())
            try await pair.reach { $0.lentNow == 0 }
        }
    }

    @Test("a holder that starts anew is looked into anew, and an idle consumer gives the memory back")
    func restartAndIdle() async throws {
        try await Cell.run { cell in
            let pair = try await LendingPair(cell, idle: .milliseconds(40))
            let blob = pattern(200_000)
            pair.memory.insert(blob)
            _ = try await pair.fetch(blob)
            try await pair.reach { $0.memoryChannels == 0 && $0.memoryBytes == 0 }
            _ = try await pair.fetch(blob)
            await pair.server.close()
            let again = DataServer(loop: cell.loop, session: .random(), source: pair.memory)
            _ = try await again.bind(cell.ipc("d.sock"), insecure: false)
            try await again.lendMemory(through: cell.runDirectory.socketPath("memory-d.sock"), budgetBytes: 1 << 20)
            #expect(try await bytes(pair.fetch(blob)) == bytes(blob))
            #expect(await again.statistics.lentBlobs == 1 && pair.client.fetched.memoryBlobs == 3)
        }
    }

    @Test("hundreds of fetches need no more memory than one at a time does")
    func flat() async throws {
        try await Cell.run { cell in
            let pair = try await LendingPair(cell)
            let blobs = (0..<4).map { pattern((1 << 20) - $0, seed: UInt8($0 + 1)) }
            for blob in blobs { pair.memory.insert(blob) }
            for round in 0..<300 { _ = try await pair.fetch(blobs[round % 4]) }
            #expect(pair.client.fetched.memoryBlobs == 300)
            let statistics = await pair.server.statistics
            // A place may still be taken while the next one is asked for.
            #expect(statistics.memoryBytes <= 2 << 20 && statistics.memoryChannels == 1)
        }
    }
}
