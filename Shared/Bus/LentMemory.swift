import CPlatform
import Failure
import Glibc

/// Memory that this process shares with one consumer, and writes blobs into.
///
/// `@unchecked Sendable`: address and size never change. The bytes of an extent are written only by whoever was given its
/// slot by the lender, which gives a slot and an extent to one at a time; the words of the table are atomic.
final class LentMemory: @unchecked Sendable {
    let descriptor: Int32
    let byteCount: Int
    /// What the consumer must read out of it to show that it sees it.
    let proof: [UInt8]
    private let address: UnsafeMutableRawPointer

    /// Takes no pages but those of the table; the others come with the blobs.
    ///
    /// - Throws: `shared_memory_unavailable`.
    init(dataBytes: Int) throws(Failure) {
        byteCount = SharedLayout.dataStart + dataBytes
        proof = Secrets.random()
        var mapping: UnsafeMutableRawPointer?
        let descriptor = cs_memory_create("zoetrope-blobs", UInt64(byteCount), &mapping)
        guard descriptor >= 0, let mapping else { throw LentMemory.failure("make \(dataBytes) bytes of") }
        self.descriptor = descriptor
        address = mapping
        let code = cs_memory_commit(descriptor, 0, UInt64(SharedLayout.dataStart))
        guard code == 0 else {
            errno = code
            // Every property is set, so deinit runs.
            throw LentMemory.failure("fill")
        }
        UnsafeMutableRawBufferPointer(start: mapping, count: SharedLayout.magic.count).copyBytes(
            from: SharedLayout.magic)
        let place = UnsafeMutableRawBufferPointer(start: mapping, count: SharedLayout.dataStart)
        UnsafeMutableRawBufferPointer(rebasing: place[SharedLayout.proof]).copyBytes(from: proof)
    }

    deinit {
        cs_memory_detach(address, UInt64(byteCount))
        close(descriptor)
    }

    /// Puts a blob into its extent and makes it readable under the slot's generation.
    ///
    /// - Returns: false when the system has no pages for it.
    func write(_ blob: PinnedTensor, to slot: LentSlot) -> Bool {
        if slot.needsPages {
            let code = cs_memory_commit(descriptor, UInt64(slot.extent.lowerBound), UInt64(slot.extent.count))
            guard code == 0 else { return false }
        }
        let word = address.advanced(by: SharedLayout.word(of: slot.index))
        cs_memory_begin(word, slot.generation - 1)
        if let source = blob.slice(0, blob.count).baseAddress {
            address.advanced(by: slot.extent.lowerBound).copyMemory(from: source, byteCount: blob.count)
        }
        cs_memory_publish(word, slot.generation)
        return true
    }

    /// Says that what lies in the slot counts no more: whoever still reads it notices.
    func retire(_ slot: LentSlot) {
        cs_memory_publish(address.advanced(by: SharedLayout.word(of: slot.index)), slot.generation + 1)
    }

    private static func failure(_ action: String) -> Failure {
        Failure(
            "shared_memory_unavailable", "cannot \(action) shared memory: \(String(cString: strerror(errno)))",
            field: "shared-memory", remedy: "Blobs go over the sockets instead; --shared-memory off ends this notice.")
    }
}

/// One blob's place in a lent memory.
struct LentSlot: Sendable {
    /// The lender's number for the consumer.
    let channel: UInt64
    let memory: LentMemory
    let index: Int
    /// Even, and never given twice for an index.
    let generation: UInt64
    let extent: Range<Int>
    /// Whether the extent may still be without pages.
    let needsPages: Bool
}

/// Copies blobs into shared memory on a thread of its own: gigabytes are not for the bus thread.
actor LendingDesk {
    private nonisolated let work = WorkQueue(label: "zoetrope.lend")
    nonisolated var unownedExecutor: UnownedSerialExecutor { work.asUnownedSerialExecutor() }

    func write(_ blob: PinnedTensor, to slot: LentSlot) -> Bool { slot.memory.write(blob, to: slot) }
}
