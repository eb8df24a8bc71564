import CPlatform
import Synchronization
package import Tensor

/// Memory of tensors that a backend makes and drops over and over: it comes back when its tensor ends and serves the
/// next one. A fresh page costs ten times a copy, for the system clears it.
///
/// Big tensors are runs of pages of 2 MiB. A run is cut, or put together from several free ones by moving their pages
/// in the address space, so that any free page serves any size and keeping pages does not raise the peak.
package final class StoragePool: Sendable {
    /// Memory that is in the pool's lists.
    private struct Run: @unchecked Sendable {
        // Whoever took the run out of the list is the only one who reaches the memory.
        let address: UnsafeMutableRawPointer
        let byteCount: Int

        func dropFirst(_ bytes: Int) -> Run { Run(address: address + bytes, byteCount: byteCount - bytes) }
        func prefix(_ bytes: Int) -> Run { Run(address: address, byteCount: bytes) }
        func unmap() { cs_pages_unmap(address, Int64(byteCount)) }
    }
    private struct State {
        /// Free blocks below a page, by size.
        var blocks: [Int: [Run]] = [:]
        var blockBytes = 0
        /// Free runs of pages, the last returned at the end: it may still be in a cache.
        var runs: [Run] = []
        var runBytes = 0
        /// Pages of living tensors.
        var usedBytes = 0
        /// Everything of living tensors, and the most that it was.
        var livingBytes = 0
        var peakBytes = 0

        mutating func count(_ bytes: Int) {
            livingBytes += bytes
            peakBytes = max(peakBytes, livingBytes)
        }
    }

    private let keptBytes: Int
    private let state = Mutex(State())

    private static let page = Int(CS_PAGE_BYTES)
    private static let smallest = 1 << 16
    /// Blocks below a page are rounded up to a power of two divided by this, so that neighbouring sizes share them.
    private static let stepsPerDoubling = 8

    /// - Parameter keptBytes: what may wait for a next use; or as much as is in use, when that is more.
    package init(keptBytes: Int = 1 << 30) { self.keptBytes = keptBytes }

    deinit {
        state.withLock { state in
            for block in state.blocks.values.joined() { block.address.deallocate() }
            for run in state.runs { run.unmap() }
        }
    }

    /// Pages that wait for a next use, in bytes.
    package var freeBytes: Int { state.withLock { $0.runBytes } }

    /// The most bytes that living tensors of the pool ever had together; those below 64 KiB are not the pool's.
    package var peakBytes: Int { state.withLock { $0.peakBytes } }

    /// A tensor of uninitialised memory.
    package func tensor(_ shape: [Int], _ dtype: DType) -> Tensor {
        let byteCount = shape.reduce(1, *) * dtype.byteCount
        guard byteCount >= Self.smallest else { return Tensor(uninitialized: shape, dtype: dtype) }
        let run = byteCount < Self.page ? takeBlock(Self.blockSize(byteCount)) : takePages(byteCount)
        state.withLock { $0.count(run.byteCount) }
        let storage = TensorStorage(adopting: run.address, byteCount: byteCount, isWritable: true) { [self] _, _ in
            state.withLock { $0.count(-run.byteCount) }
            if run.byteCount < Self.page { giveBackBlock(run) } else { giveBackPages(run) }
        }
        return Tensor(storage: storage, shape: shape, dtype: dtype)
    }

    private func takeBlock(_ size: Int) -> Run {
        let found = state.withLock { state -> Run? in
            guard let block = state.blocks[size]?.popLast() else { return nil }
            state.blockBytes -= size
            return block
        }
        return found ?? Run(address: .allocate(byteCount: size, alignment: 64), byteCount: size)
    }

    private func giveBackBlock(_ block: Run) {
        let isKept = state.withLock { state in
            guard state.blockBytes + block.byteCount <= keptBytes else { return false }
            state.blocks[block.byteCount, default: []].append(block)
            state.blockBytes += block.byteCount
            return true
        }
        if !isKept { block.address.deallocate() }
    }

    private func takePages(_ byteCount: Int) -> Run {
        let size = (byteCount + Self.page - 1) / Self.page * Self.page
        let parts = state.withLock { state -> [Run] in
            state.usedBytes += size
            return Self.takeRuns(of: size, from: &state)
        }
        if let only = parts.first, only.byteCount == size { return only }
        return Self.joined(parts, size)
    }

    /// Free runs of `size` bytes in all, or all that there are: one of that very size, or else the last returned, of
    /// which the last is cut.
    private static func takeRuns(of size: Int, from state: inout State) -> [Run] {
        if let index = state.runs.lastIndex(where: { $0.byteCount == size }) {
            state.runBytes -= size
            return [state.runs.remove(at: index)]
        }
        var parts: [Run] = []
        var missing = size
        while missing > 0, let run = state.runs.popLast() {
            let part = run.prefix(min(missing, run.byteCount))
            if part.byteCount < run.byteCount { state.runs.append(run.dropFirst(part.byteCount)) }
            state.runBytes -= part.byteCount
            missing -= part.byteCount
            parts.append(part)
        }
        return parts
    }

    /// One run with the pages of `parts` at its beginning and fresh ones behind them.
    private static func joined(_ parts: [Run], _ size: Int) -> Run {
        let run = map(size)
        var filled = 0
        for (index, part) in parts.enumerated() {
            guard cs_pages_move(part.address, Int64(part.byteCount), run.address + filled) == 0 else {
                // The system has a limit of mappings for a process; fresh pages need but one.
                run.unmap()
                for rest in parts[index...] { rest.unmap() }
                return map(size)
            }
            filled += part.byteCount
        }
        return run
    }

    private static func map(_ size: Int) -> Run {
        guard let address = cs_pages_map(Int64(size)) else {
            preconditionFailure("the system has no \(size >> 20) MiB of memory left for a tensor")
        }
        return Run(address: address, byteCount: size)
    }

    private func giveBackPages(_ run: Run) {
        let surplus = state.withLock { state -> [Run] in
            state.usedBytes -= run.byteCount
            state.runs.append(run)
            state.runBytes += run.byteCount
            var surplus: [Run] = []
            while state.runBytes > max(keptBytes, state.usedBytes), !state.runs.isEmpty {
                let oldest = state.runs.removeFirst()
                state.runBytes -= oldest.byteCount
                surplus.append(oldest)
            }
            return surplus
        }
        for run in surplus { run.unmap() }
    }

    static func blockSize(_ byteCount: Int) -> Int {
        let power = Int.bitWidth - (byteCount - 1).leadingZeroBitCount
        let step = max((1 << power) / 2, smallest) / stepsPerDoubling
        return (byteCount + step - 1) / step * step
    }
}
