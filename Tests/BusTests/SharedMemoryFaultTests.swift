import Bus
import CPlatform
import CZeroMQ
import Failure
import Foundation
import Runtime
import Tensor
import Testing
import Wire

@Suite("Shared memory that is not as it should be", .timeLimit(.minutes(1))) struct SharedMemoryFaultTests {
    private func client(_ cell: Cell) -> DataClient {
        DataClient(loop: cell.loop, session: .random(), runDirectory: cell.runDirectory)
    }

    private let blob = pattern(100_000)
    private let offset = 8192

    /// Fetches from a fake holder that answers the second GET with `slot`, and must then be asked without memory.
    private func expectFallback(
        _ cell: Cell, generation: UInt64, _ slot: (Digest) -> MemorySlot, contents: Tensor? = nil
    ) async throws {
        let holder = try FakeHolder(cell)
        holder.write(bytes(contents ?? blob), at: offset)
        holder.setGeneration(generation, of: 3)
        let client = client(cell)
        async let fetched = client.fetch(ref(blob, at: [holder.location]), timeout: .seconds(20))
        let second = try await holder.handOver()
        #expect(second.get.memory == MemoryWish(proof: holder.proof))
        try holder.answer(.memorySlot(slot(second.get.digest)), to: second)
        try await holder.serve(blob, to: holder.request())
        #expect(try await bytes(fetched) == bytes(blob))
        #expect(client.fetched == FetchCounters(socketBlobs: 1, socketBytes: 100_000, fallbacks: 1))
    }

    @Test("a place that was given away before it was read is not read", arguments: [5, 6, 0] as [UInt64])
    func givenAway(generation: UInt64) async throws {
        try await Cell.run { cell in
            // The bytes are still the right ones: only the generation tells.
            try await expectFallback(cell, generation: generation) {
                MemorySlot(digest: $0, slot: 3, generation: 4, offset: 8192, length: 100_000)
            }
        }
    }

    @Test("bytes under the right generation that are not those of the digest are fetched again over the socket")
    func wrongBytes() async throws {
        try await Cell.run { cell in
            try await expectFallback(
                cell, generation: 4,
                { MemorySlot(digest: $0, slot: 3, generation: 4, offset: 8192, length: 100_000) },
                contents: pattern(100_000, seed: 77))
        }
    }

    @Test(
        "a place outside the memory, of another length, in no slot or without a readable generation is refused",
        arguments: [
            MemorySlot(digest: Digest.of([1]), slot: 3, generation: 4, offset: 1 << 20, length: 100_000),
            MemorySlot(digest: Digest.of([1]), slot: 3, generation: 4, offset: .max - 10, length: 100_000),
            MemorySlot(digest: Digest.of([1]), slot: 3, generation: 4, offset: 64, length: 100_000),
            MemorySlot(digest: Digest.of([1]), slot: 3, generation: 4, offset: 8192, length: 99_999),
            MemorySlot(digest: Digest.of([1]), slot: 64, generation: 4, offset: 8192, length: 100_000),
            MemorySlot(digest: Digest.of([1]), slot: .max, generation: 4, offset: 8192, length: 100_000),
            MemorySlot(digest: Digest.of([1]), slot: 3, generation: 5, offset: 8192, length: 100_000),
        ])
    func badPlaces(slot: MemorySlot) async throws {
        try await Cell.run { cell in
            try await expectFallback(cell, generation: slot.generation) { digest in
                var slot = slot
                slot.digest = digest
                return slot
            }
        }
    }

    @Test("a place for another blob is refused")
    func otherBlob() async throws {
        try await Cell.run { cell in
            try await expectFallback(cell, generation: 4) { _ in
                MemorySlot(digest: Digest.of([1]), slot: 3, generation: 4, offset: 8192, length: 100_000)
            }
        }
    }

    @Test("memory that could shrink, that is a file, that is not ours or that never comes is not looked into")
    func foreignMemory() async throws {
        for offering in [FakeHolder.Offering.unsealed, .file, .blank, .nothing] {
            try await Cell.run { cell in
                let holder = try FakeHolder(cell, offering)
                let client = client(cell)
                async let fetched = client.fetch(ref(blob, at: [holder.location]), timeout: .seconds(20))
                try await holder.serve(blob, to: holder.handOver())
                #expect(try await bytes(fetched) == bytes(blob), "\(offering)")
                #expect(client.fetched.fallbacks == 1)
                // Not asked again for a while.
                async let second = client.fetch(ref(blob, at: [holder.location]), timeout: .seconds(20))
                try await holder.serve(blob, to: holder.request())
                #expect(try await bytes(second) == bytes(blob))
            }
        }
    }

    @Test("an invitation to a socket that is not there, or is no memory socket, leads to the socket of the blobs")
    func badInvitations() async throws {
        for name in ["memory-gone.sock", "fake.sock", "memory-plain"] {
            try await Cell.run { cell in
                // What lies at the path is not the holder's, as in a container with a folder of its own.
                _ = FileManager.default.createFile(atPath: cell.runDirectory.socketPath("memory-plain"), contents: nil)
                let holder = try FakeHolder(cell)
                let client = client(cell)
                async let fetched = client.fetch(ref(blob, at: [holder.location]), timeout: .seconds(20))
                try await holder.serve(blob, to: holder.handOver(naming: name))
                #expect(try await bytes(fetched) == bytes(blob), "\(name)")
                #expect(client.fetched.fallbacks == 1 && client.fetched.memoryBlobs == 0)
            }
        }
    }

    @Test("a holder that invites again and again is asked for chunks")
    func endlessInvitations() async throws {
        try await Cell.run { cell in
            let holder = try FakeHolder(cell)
            let client = client(cell)
            async let fetched = client.fetch(ref(blob, at: [holder.location]), timeout: .seconds(20))
            let second = try await holder.handOver()
            try holder.answer(
                .memoryInvitation(
                    MemoryInvitation(
                        digest: second.get.digest, socket: "memory-fake.sock", token: holder.proof)), to: second)
            try await holder.serve(blob, to: holder.request())
            #expect(try await bytes(fetched) == bytes(blob))
        }
    }

    // MARK: The holder's side

    /// A consumer made of bare calls, which was handed its memory and shows it.
    private struct BareConsumer {
        let peer: BarePeer
        let connection: Int32
        let address: UnsafeRawPointer
        let size: UInt64
        let descriptor: Int32

        init(_ cell: Cell, _ digest: Digest) async throws {
            peer = try BarePeer(ZMQ_DEALER, connect: cell.ipc("d.sock").description)
            let get = Get(digest: digest, offset: 0, length: 100_000, window: 1 << 20, memory: MemoryWish())
            peer.send([try EnvelopeCodec.encode(envelope(.get(get)))])
            guard case .memoryInvitation(let invitation) = try await EnvelopeCodec.decode(peer.receive()[0]).message
            else { throw Failure("no_invitation", "") }
            connection = cs_channel_connect(cell.runDirectory.socketPath(invitation.socket))
            try #require(connection >= 0 && cs_channel_is_own_user(connection) == 1)
            let greeting = Array("CVM1".utf8) + invitation.token
            try #require(cs_channel_send(connection, greeting, greeting.count, -1) == 0)
            let answer = try await channelAnswer(connection)
            try #require(answer.count == 4 && answer.passed >= 0)
            descriptor = answer.passed
            var size: UInt64 = 0
            address = try #require(cs_memory_attach(answer.passed, 1 << 40, &size))
            self.size = size
        }

        var proof: [UInt8] { Array(UnsafeRawBufferPointer(start: address + 8, count: MemoryWish.proofBytes)) }

        func ask(_ digest: Digest, proof: [UInt8]) async throws -> Message {
            var get = Get(digest: digest, offset: 0, length: 100_000, window: 1 << 20)
            get.memory = MemoryWish(proof: proof)
            let asked = Envelope(
                session: .random(), sequence: .random(in: 10...10_000), brokerEpoch: 0, inReplyTo: 0,
                message: .get(get))
            peer.send([try EnvelopeCodec.encode(asked)])
            return try await EnvelopeCodec.decode(peer.receive()[0]).message
        }

        func word(_ slot: MemorySlot) -> UInt64 { cs_memory_word(address + 64 * (Int(slot.slot) + 1)) }

        func end() {
            cs_memory_detach(address, size)
            close(descriptor)
            close(connection)
        }
    }

    @Test("a token is good once, a guessed one never; a wrong proof is answered by an invitation, not by a place")
    func tokens() async throws {
        try await Cell.run { cell in
            let pair = try await LendingPair(cell)
            let digest = pair.memory.insert(blob)
            let path = cell.runDirectory.socketPath("memory-d.sock")
            var status = stat()
            #expect(lstat(path, &status) == 0 && status.st_mode & 0o777 == 0o600)
            for greeting in [
                Array("CVM1".utf8) + [UInt8](repeating: 1, count: 32), Array("CVM2".utf8), [0], [],
            ] {
                let stranger = cs_channel_connect(path)
                #expect(cs_channel_send(stranger, greeting, greeting.count, -1) == 0)
                let answer = try await channelAnswer(stranger)
                #expect(answer.count <= 0 && answer.passed == -1)
                close(stranger)
            }
            let consumer = try await BareConsumer(cell, digest)
            var guess = consumer.proof
            guess[31] ^= 1
            guard case .memoryInvitation = try await consumer.ask(digest, proof: guess) else {
                throw Failure("no_invitation", "")
            }
            #expect(await pair.server.statistics.lentBlobs == 0)
            guard case .memorySlot = try await consumer.ask(digest, proof: consumer.proof) else {
                throw Failure("no_slot", "")
            }
            consumer.end()
        }
    }

    @Test("a consumer can neither write into what it was handed nor change its size")
    func sealed() async throws {
        try await Cell.run { cell in
            let pair = try await LendingPair(cell)
            let consumer = try await BareConsumer(cell, pair.memory.insert(blob))
            let writable = mmap(nil, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, consumer.descriptor, 0)
            #expect(writable == MAP_FAILED)
            #expect(ftruncate(consumer.descriptor, 0) != 0 && ftruncate(consumer.descriptor, 1 << 30) != 0)
            #expect(pwrite(consumer.descriptor, [1], 1, 0) != 1)
            let mapped = UnsafeMutableRawPointer(mutating: consumer.address)
            #expect(mprotect(mapped, 4096, PROT_READ | PROT_WRITE) != 0)
            consumer.end()
        }
    }

    @Test("a consumer that is silent for a lease loses its place, and could notice")
    func leaseEnds() async throws {
        try await Cell.run { cell in
            let pair = try await LendingPair(cell, lease: .milliseconds(60))
            let digest = pair.memory.insert(blob)
            let consumer = try await BareConsumer(cell, digest)
            guard case .memorySlot(let slot) = try await consumer.ask(digest, proof: consumer.proof) else {
                throw Failure("no_slot", "")
            }
            #expect(slot.generation.isMultiple(of: 2) && slot.length == 100_000)
            try await pair.reach { $0.expiredLeases == 1 && $0.lentNow == 0 }
            #expect(consumer.word(slot) == slot.generation + 1)
            // The same place is given out under a later generation.
            guard case .memorySlot(let next) = try await consumer.ask(digest, proof: consumer.proof) else {
                throw Failure("no_slot", "")
            }
            #expect(next.offset == slot.offset && (next.slot != slot.slot || next.generation > slot.generation))
            consumer.end()
        }
    }

    @Test("the death of a consumer's process frees all that was lent to it at once")
    func consumerDies() async throws {
        try await Cell.run { cell in
            let pair = try await LendingPair(cell, lease: .seconds(3600))
            let digest = pair.memory.insert(blob)
            let consumer = try await BareConsumer(cell, digest)
            // The connection now belongs to a process of its own, and to nobody else.
            let process = Process()
            process.executableURL = URL(fileURLWithPath: "/bin/sleep")
            process.arguments = ["600"]
            process.standardInput = FileHandle(fileDescriptor: consumer.connection, closeOnDealloc: false)
            try process.run()
            guard case .memorySlot = try await consumer.ask(digest, proof: consumer.proof) else {
                throw Failure("no_slot", "")
            }
            consumer.end()
            #expect(await pair.server.statistics.lentNow == 1)
            #expect(await pair.server.statistics.memoryBytes > 0)
            kill(process.processIdentifier, SIGKILL)
            try await pair.reach { $0.lentNow == 0 && $0.memoryChannels == 0 && $0.memoryBytes == 0 }
            #expect(await pair.server.statistics.expiredLeases == 0)
        }
    }

    // MARK: Keys

    @Test("behind CURVE a ticket opens the memory; without it there is no invitation, and a revoked key gets nothing")
    func tickets() async throws {
        try await Cell.run { cell in
            let holder = try KeyPair.generate()
            let consumer = try KeyPair.generate()
            let key = TicketKey.master(secret: [1]).derived(for: holder.publicKey)
            let security = try BusSecurity(loop: cell.loop, identity: holder)
            security.adopt(KeyRing(keys: [consumer.publicKey], ticketKey: key, unixMilliseconds: 1_000_000))
            let memory = MemoryStore(budgetBytes: 1 << 20)
            memory.insert(blob)
            let server = DataServer(loop: cell.loop, session: .random(), source: memory, security: security)
            let endpoint = try await server.bind(anyTCPPort, insecure: false)
            let location = try #require(endpoint.location(in: cell.runDirectory)).keyed(holder.publicKey)
            try await server.lendMemory(
                through: cell.runDirectory.socketPath("memory-k.sock"), budgetBytes: 1 << 20)
            func client(until expiry: UInt64) -> DataClient {
                DataClient(
                    loop: cell.loop, session: .random(), runDirectory: cell.runDirectory,
                    access: DataAccess(identity: consumer) { (request) throws(Failure) in
                        key.issue(request.terms, fence: 3, expiresAtUnixMilliseconds: expiry)
                    })
            }
            await expectFailure("input_missing") {
                try await client(until: 999_999).fetch(ref(blob, at: [location]), timeout: .seconds(20))
            }
            #expect(await server.statistics.refusedTickets > 0)
            #expect(await server.statistics.memoryChannels == 0)
            let good = client(until: 1_060_000)
            #expect(try await bytes(good.fetch(ref(blob, at: [location]), timeout: .seconds(20))) == bytes(blob))
            #expect(good.fetched.memoryBlobs == 1)
            #expect(await server.statistics.sentBytes == 0)
            security.adopt(KeyRing(keys: [], ticketKey: key, unixMilliseconds: 1_000_000))
            await expectFailure("input_missing") {
                try await good.fetch(ref(blob, at: [location]), timeout: .seconds(1))
            }
            #expect(await server.statistics.lentBlobs == 1)
        }
    }
}

/// Waits for a message of a memory socket, or its end.
func channelAnswer(_ connection: Int32) async throws -> (count: Int64, bytes: [UInt8], passed: Int32) {
    var answer = [UInt8](repeating: 0, count: 100)
    var passed: Int32 = -1
    let deadline = ContinuousClock.now + .seconds(20)
    while true {
        let count = cs_channel_receive(connection, &answer, answer.count, &passed)
        if count >= 0 || errno != EAGAIN { return (count, Array(answer.prefix(max(0, Int(count)))), passed) }
        guard .now < deadline else { throw Failure("nothing_received", "no message within twenty seconds") }
        try await Task.sleep(for: .milliseconds(1))
    }
}
