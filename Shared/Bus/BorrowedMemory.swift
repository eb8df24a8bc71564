import CPlatform
import Failure
import Glibc
import Wire

/// Memory of a holder that this process looks into.
///
/// `@unchecked Sendable`: address and size never change, the mapping cannot be written, and its bytes are read only by
/// `read`, which says whether what it copied may be used.
final class BorrowedMemory: @unchecked Sendable {
    /// What to show the holder.
    let proof: [UInt8]
    let byteCount: Int
    private let address: UnsafeRawPointer

    /// Brings the token to the holder's memory socket, which answers with a message for `receive`.
    ///
    /// - Returns: the connection, which must stay open as long as the memory is used.
    /// - Throws: `shared_memory_unavailable`, for whatever reason.
    static func connect(_ path: String, token: [UInt8]) throws(Failure) -> Int32 {
        let connection = cs_channel_connect(path)
        guard connection >= 0 else { throw failure("cannot connect to \(path)") }
        let greeting = SharedGreeting.magic + token
        guard cs_channel_is_own_user(connection) == 1 else {
            close(connection)
            throw failure("\(path) belongs to another user", errno: 0)
        }
        guard cs_channel_send(connection, greeting, greeting.count, -1) == 0 else {
            let failure = failure("cannot send to \(path)")
            close(connection)
            throw failure
        }
        return connection
    }

    /// Maps what the holder has handed over.
    ///
    /// - Returns: nil when nothing has come yet.
    /// - Throws: `shared_memory_unavailable`, for whatever reason.
    static func receive(_ connection: Int32) throws(Failure) -> BorrowedMemory? {
        var answer = [UInt8](repeating: 0, count: SharedGreeting.magic.count)
        var passed: Int32 = -1
        let count = cs_channel_receive(connection, &answer, answer.count, &passed)
        if count < 0, errno == EAGAIN { return nil }
        defer { if passed >= 0 { close(passed) } }
        guard Int(count) == answer.count, passed >= 0, answer == SharedGreeting.magic else {
            throw failure("the holder handed over no memory", errno: 0)
        }
        return try BorrowedMemory(passed)
    }

    private init(_ descriptor: Int32) throws(Failure) {
        var size: UInt64 = 0
        guard let mapping = cs_memory_attach(descriptor, SharedLayout.longest, &size) else {
            throw BorrowedMemory.failure("cannot map the memory")
        }
        address = mapping
        byteCount = Int(size)
        let head = UnsafeRawBufferPointer(start: mapping, count: Int(min(size, UInt64(SharedLayout.dataStart))))
        guard head.count == SharedLayout.dataStart, head.starts(with: SharedLayout.magic) else {
            proof = []
            throw BorrowedMemory.failure("the memory is none of ours", errno: 0)
        }
        proof = Array(head[SharedLayout.proof])
    }

    deinit { cs_memory_detach(address, UInt64(byteCount)) }

    /// Whether the slot can be one of this memory.
    func holds(_ slot: MemorySlot) -> Bool {
        let (end, overflow) = slot.offset.addingReportingOverflow(slot.length)
        return Int(slot.slot) < SharedLayout.slots && slot.generation > 0 && slot.generation.isMultiple(of: 2)
            && slot.offset >= UInt64(SharedLayout.dataStart) && !overflow && end <= UInt64(byteCount)
    }

    /// Whether the slot's blob lies there now. `holds(slot)` must be true.
    func isCurrent(_ slot: MemorySlot) -> Bool { cs_memory_word(word(of: slot)) == slot.generation }

    /// Copies `range` of the slot's blob to `target`. `holds(slot)` must be true.
    ///
    /// - Returns: whether the blob still lay there afterwards; otherwise what was copied may be anything.
    func read(_ range: Range<Int>, of slot: MemorySlot, to target: UnsafeMutableRawPointer) -> Bool {
        precondition(range.lowerBound >= 0 && range.upperBound <= Int(slot.length), "\(range) of \(slot.length) bytes")
        return cs_memory_read(
            target, address.advanced(by: Int(slot.offset) + range.lowerBound), range.count, word(of: slot),
            slot.generation)
    }

    private func word(of slot: MemorySlot) -> UnsafeRawPointer {
        address.advanced(by: SharedLayout.word(of: Int(slot.slot)))
    }

    private static func failure(_ what: String, errno code: Int32 = Glibc.errno) -> Failure {
        let reason = code == 0 ? "" : ": \(String(cString: strerror(code)))"
        return Failure("shared_memory_unavailable", what + reason, field: "shared-memory")
    }
}

/// Copies one blob out of shared memory on a thread of its own, checking before and after every piece that it still
/// lies there, and hands complete pieces to the hasher.
actor BorrowingDesk {
    private nonisolated let work = WorkQueue(label: "zoetrope.borrow")
    nonisolated var unownedExecutor: UnownedSerialExecutor { work.asUnownedSerialExecutor() }

    /// - Returns: false when the blob lies there no more; the buffer may then hold anything, the hasher only true bytes.
    func copy(
        _ slot: MemorySlot, from memory: BorrowedMemory, to buffer: ReceiveBuffer, _ hash: HashPipeline
    ) -> Bool {
        guard memory.holds(slot), Int(slot.length) == buffer.count, memory.isCurrent(slot) else { return false }
        var offset = 0
        while offset < buffer.count {
            let range = offset..<min(offset + Limits.chunkBytes, buffer.count)
            guard buffer.fill(range, { memory.read(range, of: slot, to: $0) }) else { return false }
            hash.append(range)
            offset = range.upperBound
        }
        return true
    }
}
