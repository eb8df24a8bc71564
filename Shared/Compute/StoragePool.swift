import Glibc
import Synchronization
import Tensor

/// Memory of tensors that a backend makes and drops over and over: blocks come back when their tensor ends and serve
/// the next one of about that size. Fresh pages cost ten times a copy.
final class StoragePool: Sendable {
    private struct State {
        /// Free blocks by size, the last returned at the end.
        var free: [Int: [Block]] = [:]
        var freeBytes = 0
    }
    private struct Block: @unchecked Sendable {
        // Owned by the pool while it is in the list, and reached by nobody else.
        let address: UnsafeMutableRawPointer
    }

    /// What may wait for a next use, and the largest block that does: beyond it fresh pages cost little beside the work
    /// that fills them, and keeping them would raise the peak.
    private let keptBytes: Int, largestKept: Int
    private let state = Mutex(State())

    /// Sizes are rounded up to a power of two divided by this, so that neighbouring sizes share blocks.
    private static let stepsPerDoubling = 8

    init(keptBytes: Int = 384 << 20, largestKept: Int = 160 << 20) {
        self.keptBytes = keptBytes
        self.largestKept = largestKept
    }

    deinit {
        state.withLock { state in
            for block in state.free.values.joined() { block.address.deallocate() }
        }
    }

    /// A tensor of uninitialised memory.
    func tensor(_ shape: [Int], _ dtype: DType) -> Tensor {
        let byteCount = shape.reduce(1, *) * dtype.byteCount
        guard byteCount >= 1 << 16, byteCount <= largestKept else {
            return Tensor(uninitialized: shape, dtype: dtype)
        }
        let size = Self.blockSize(byteCount)
        let address = take(size) ?? Self.allocate(size)
        let storage = TensorStorage(adopting: address, byteCount: byteCount, isWritable: true) { [self] address, _ in
            giveBack(Block(address: address), size)
        }
        return Tensor(storage: storage, shape: shape, dtype: dtype)
    }

    private func take(_ size: Int) -> UnsafeMutableRawPointer? {
        state.withLock { state in
            guard let block = state.free[size]?.popLast() else { return nil }
            state.freeBytes -= size
            return block.address
        }
    }

    private func giveBack(_ block: Block, _ size: Int) {
        let surplus = state.withLock { state -> [Block] in
            state.free[size, default: []].append(block)
            state.freeBytes += size
            var surplus: [Block] = []
            // Other sizes go first: the pass that is running will want this one again.
            while state.freeBytes > keptBytes {
                let sizes = state.free.filter { !$0.value.isEmpty }.keys
                guard let victim = sizes.filter({ $0 != size }).max() ?? sizes.first else { break }
                guard let last = state.free[victim]?.popLast() else { break }
                state.freeBytes -= victim
                surplus.append(last)
            }
            return surplus
        }
        for block in surplus { block.address.deallocate() }
    }

    static func blockSize(_ byteCount: Int) -> Int {
        let power = Int.bitWidth - (byteCount - 1).leadingZeroBitCount
        let step = max((1 << power) / 2, 1 << 16) / stepsPerDoubling
        return (byteCount + step - 1) / step * step
    }

    private static func allocate(_ size: Int) -> UnsafeMutableRawPointer {
        let page = 2 << 20
        let address = UnsafeMutableRawPointer.allocate(byteCount: size, alignment: size >= page ? page : 64)
        if size >= page { madvise(address, size / page * page, MADV_HUGEPAGE) }
        return address
    }
}
