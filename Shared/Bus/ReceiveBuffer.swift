import Failure
import Glibc
import Tensor

/// Memory that a blob is received into, aligned to 64 bytes, and that becomes a tensor without a copy.
///
/// `@unchecked Sendable`: address and size never change; every byte is written once, by the bus thread or by the one
/// copy out of shared memory that the transfer has begun, before the range that holds it is handed to the hasher or the
/// buffer to a tensor.
final class ReceiveBuffer: @unchecked Sendable {
    private static let hugePage = 2 << 20, hugePagesFrom = 4 << 20

    private let address: UnsafeMutableRawPointer
    let count: Int

    /// - Throws: `out_of_memory`; the size comes from a peer, and Swift's own allocation would end the process.
    init(count: Int) throws(Failure) {
        var memory: UnsafeMutableRawPointer?
        let isLarge = count >= ReceiveBuffer.hugePagesFrom
        guard posix_memalign(&memory, isLarge ? ReceiveBuffer.hugePage : 64, max(count, 64)) == 0, let memory else {
            throw Failure("out_of_memory", "cannot allocate \(count) bytes for a blob", retry: .otherWorker)
        }
        // The first touch of fresh pages of 4 KiB takes several times as long as the copy.
        if isLarge { madvise(memory, count / ReceiveBuffer.hugePage * ReceiveBuffer.hugePage, MADV_HUGEPAGE) }
        self.count = count
        address = memory
    }

    deinit { free(address) }

    func write(_ bytes: UnsafeRawBufferPointer, at offset: Int) {
        precondition(offset >= 0 && offset + bytes.count <= count, "\(bytes.count) bytes at \(offset) of \(count)")
        if let source = bytes.baseAddress {
            address.advanced(by: offset).copyMemory(from: source, byteCount: bytes.count)
        }
    }

    /// Lets `body` write the bytes of `range`, and says what it says.
    func fill(_ range: Range<Int>, _ body: (UnsafeMutableRawPointer) -> Bool) -> Bool {
        precondition(range.lowerBound >= 0 && range.upperBound <= count, "range \(range) of \(count)")
        return body(address.advanced(by: range.lowerBound))
    }

    func slice(_ range: Range<Int>) -> UnsafeRawBufferPointer {
        precondition(range.lowerBound >= 0 && range.upperBound <= count, "range \(range) of \(count)")
        return UnsafeRawBufferPointer(start: address.advanced(by: range.lowerBound), count: range.count)
    }

    /// The whole buffer as a tensor that may be written; nobody else may hold the buffer any more.
    func tensor(shape: [Int], dtype: DType) -> Tensor {
        let storage = TensorStorage(adopting: address, byteCount: max(count, 64), isWritable: true) { [self] _, _ in
            // The closure owns the buffer; its end frees the memory.
            _ = self
        }
        return Tensor(storage: storage, shape: shape, dtype: dtype)
    }
}
