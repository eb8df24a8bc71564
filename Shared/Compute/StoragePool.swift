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
        var usedBytes = 0
        /// The most that was ever in use at once.
        var peakBytes = 0
    }
    private struct Block: @unchecked Sendable {
        // Owned by the pool while it is in the list, and reached by nobody else.
        let address: UnsafeMutableRawPointer
    }

    private let keptBytes: Int
    private let state = Mutex(State())

    /// Sizes are rounded up to a power of two divided by this, so that neighbouring sizes share blocks.
    private static let stepsPerDoubling = 8
    private static let smallest = 1 << 16

    /// - Parameter keptBytes: what may wait for a next use.
    init(keptBytes: Int = 1 << 30) { self.keptBytes = keptBytes }

    deinit {
        state.withLock { state in
            for block in state.free.values.joined() { block.address.deallocate() }
        }
    }

    /// A tensor of uninitialised memory.
    func tensor(_ shape: [Int], _ dtype: DType) -> Tensor {
        let byteCount = shape.reduce(1, *) * dtype.byteCount
        guard byteCount >= Self.smallest else { return Tensor(uninitialized: shape, dtype: dtype) }
        let size = Self.blockSize(byteCount)
        let address = take(size) ?? Self.allocate(size)
        let storage = TensorStorage(adopting: address, byteCount: byteCount, isWritable: true) { [self] address, _ in
            giveBack(Block(address: address), size)
        }
        return Tensor(storage: storage, shape: shape, dtype: dtype)
    }

    /// A free block, or nil when a new one must be made. Before that, blocks of other sizes go where all together would
    /// exceed what was ever in use: keeping memory must not raise the peak.
    private func take(_ size: Int) -> UnsafeMutableRawPointer? {
        let (found, surplus) = state.withLock { state -> (Block?, [Block]) in
            state.usedBytes += size
            state.peakBytes = max(state.peakBytes, state.usedBytes)
            if let block = state.free[size]?.popLast() {
                state.freeBytes -= size
                return (block, [])
            }
            return (nil, Self.shrink(&state, to: state.peakBytes - state.usedBytes))
        }
        for block in surplus { block.address.deallocate() }
        return found?.address
    }

    private func giveBack(_ block: Block, _ size: Int) {
        let surplus = state.withLock { state -> [Block] in
            state.usedBytes -= size
            state.free[size, default: []].append(block)
            state.freeBytes += size
            return Self.shrink(&state, to: keptBytes)
        }
        for block in surplus { block.address.deallocate() }
    }

    /// Takes blocks out, the largest first, until at most `limit` bytes are free.
    private static func shrink(_ state: inout State, to limit: Int) -> [Block] {
        var surplus: [Block] = []
        while state.freeBytes > limit, let size = state.free.filter({ !$0.value.isEmpty }).keys.max(),
            let block = state.free[size]?.popLast()
        {
            state.freeBytes -= size
            surplus.append(block)
        }
        return surplus
    }

    static func blockSize(_ byteCount: Int) -> Int {
        let power = Int.bitWidth - (byteCount - 1).leadingZeroBitCount
        let step = max((1 << power) / 2, smallest) / stepsPerDoubling
        return (byteCount + step - 1) / step * step
    }

    private static func allocate(_ size: Int) -> UnsafeMutableRawPointer {
        let page = 2 << 20
        let address = UnsafeMutableRawPointer.allocate(byteCount: size, alignment: size >= page ? page : 64)
        if size >= page { madvise(address, size / page * page, MADV_HUGEPAGE) }
        return address
    }
}
