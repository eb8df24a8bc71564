import Bus
import CPlatform
import CZeroMQ
import Failure
import Glibc
import Runtime
import Tensor
import Testing
import Wire

/// A holder made of bare calls that shares memory, well or badly, as the test tells it to.
///
/// `@unchecked Sendable`: each test uses its holder from one task, one call after the other.
final class FakeHolder: @unchecked Sendable {
    /// What it hands to a consumer that has brought its token.
    enum Offering {
        case sealed
        /// Memory whose size the holder could still change.
        case unsealed
        /// Sealed, but with nothing of ours in it.
        case blank
        /// A descriptor of a file.
        case file
        case nothing
    }

    static let size = 1 << 20
    let peer: BarePeer
    let location: Location
    let proof = [UInt8](repeating: 7, count: MemoryWish.proofBytes)
    private let listener: Int32
    private let path: String
    private let descriptor: Int32
    private let address: UnsafeMutableRawPointer
    private var connection: Int32 = -1

    init(_ cell: Cell, _ offering: Offering = .sealed, socket: String = "memory-fake.sock") throws {
        peer = try BarePeer(ZMQ_ROUTER, bind: cell.ipc("fake.sock").description)
        location = .ipc(host: cell.runDirectory.hostIdentity, socket: "fake.sock")
        path = cell.runDirectory.socketPath(socket)
        listener = cs_channel_listen(path)
        try #require(listener >= 0)
        var mapping: UnsafeMutableRawPointer?
        switch offering {
        case .sealed, .blank, .nothing:
            descriptor = cs_memory_create("fake", UInt64(FakeHolder.size), &mapping)
        case .unsealed:
            // A file in memory, which could be sealed and is not.
            let name = "/dev/shm/zoetrope-bus-tests-\(getpid())"
            descriptor = open(name, O_RDWR | O_CREAT, 0o600)
            unlink(name)
        case .file:
            descriptor = open(cell.runDirectory.socketPath("file"), O_RDWR | O_CREAT, 0o600)
        }
        try #require(descriptor >= 0)
        if mapping == nil {
            try #require(ftruncate(descriptor, off_t(FakeHolder.size)) == 0)
            mapping = mmap(nil, FakeHolder.size, PROT_READ | PROT_WRITE, MAP_SHARED, descriptor, 0)
        }
        address = try #require(mapping)
        sharesNothing = offering == .nothing
        if offering != .blank {
            write(Array("CVB1MEM\0".utf8), at: 0)
            write(proof, at: 8)
        }
    }

    private let sharesNothing: Bool

    deinit {
        munmap(address, FakeHolder.size)
        for descriptor in [descriptor, listener, connection] where descriptor >= 0 { close(descriptor) }
        unlink(path)
    }

    func write(_ bytes: [UInt8], at offset: Int) {
        address.advanced(by: offset).copyMemory(from: bytes, byteCount: bytes.count)
    }

    func setGeneration(_ generation: UInt64, of slot: Int) {
        cs_memory_publish(address.advanced(by: 64 * (slot + 1)), generation)
    }

    /// The next message, which must be a GET, and who sent it.
    func request() async throws -> (peer: [UInt8], sequence: UInt64, get: Get) {
        while true {
            let frames = try await peer.receive()
            let asked = try EnvelopeCodec.decode(frames[1])
            // CREDIT and STOP of an earlier transfer may come first.
            if case .get(let get) = asked.message { return (frames[0], asked.sequence, get) }
        }
    }

    func answer(
        _ message: Message, to request: (peer: [UInt8], sequence: UInt64, get: Get), payload: [UInt8]? = nil
    )
        throws
    {
        let control = try EnvelopeCodec.encode(envelope(message, inReplyTo: request.sequence))
        peer.send([request.peer, control] + (payload.map { [$0] } ?? []))
    }

    /// Answers a first GET with an invitation, and the consumer that follows it with what there is to offer.
    ///
    /// - Returns: the GET that comes after that.
    func handOver(
        naming socket: String = "memory-fake.sock"
    ) async throws -> (peer: [UInt8], sequence: UInt64, get: Get) {
        let first = try await request()
        #expect(first.get.memory == MemoryWish())
        let token = [UInt8](repeating: 9, count: MemoryWish.proofBytes)
        try answer(
            .memoryInvitation(MemoryInvitation(digest: first.get.digest, socket: socket, token: token)), to: first)
        if socket == "memory-fake.sock" { try await greet(token) }
        return try await request()
    }

    private func greet(_ token: [UInt8]) async throws {
        while connection < 0 {
            connection = cs_channel_accept(listener)
            if connection < 0 { try await Task.sleep(for: .milliseconds(1)) }
        }
        #expect(try await channelAnswer(connection).bytes == Array("CVM1".utf8) + token)
        let magic = Array("CVM1".utf8)
        // On a busy machine the consumer may have stopped waiting: it then asks for chunks, which every test sees.
        _ = cs_channel_send(connection, magic, magic.count, sharesNothing ? -1 : descriptor)
    }

    /// Serves a GET that asks for no memory, as every holder can.
    func serve(_ blob: Tensor, to request: (peer: [UInt8], sequence: UInt64, get: Get)) throws {
        #expect(request.get.memory == nil)
        let payload = bytes(blob)
        let crc = payload.withUnsafeBytes { Checksum.crc32c($0) }
        let chunk = Chunk(digest: request.get.digest, offset: 0, length: UInt32(payload.count), crc: crc)
        try answer(.chunk(chunk), to: request, payload: payload)
    }
}
