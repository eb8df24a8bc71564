import Compute
import Failure
import Tensor

/// Told (blocks done, blocks); may throw to stop.
typealias BlockReport = (Int, Int) throws(Failure) -> Void

extension DenoisingSession {
    /// Runs of the blocks what the cache does not leave out of step `row`.
    func runBlocks(
        _ stream: inout JointStream, row: Int, cache: inout StepCacheState, blockDone: BlockReport
    ) throws(Failure) {
        cache.begin(step: row)
        let full: Bool
        switch cache.cache {
        case .teaCache: full = try runTeaCache(&stream, row: row, cache: &cache, blockDone: blockDone)
        case .firstBlock(let threshold) where blockCount > 1:
            full = try runFirstBlockCache(
                &stream, row: row, threshold: threshold, cache: &cache, blockDone: blockDone)
        case .pyramidAttention: full = try runBroadcast(&stream, row: row, cache: &cache, blockDone: blockDone)
        case nil, .firstBlock:
            try run(0..<blockCount, &stream, row: row, blockDone: blockDone)
            full = true
        }
        cache.end(step: row, full: full)
    }

    private func runTeaCache(
        _ stream: inout JointStream, row: Int, cache: inout StepCacheState, blockDone: BlockReport
    ) throws(Failure) -> Bool {
        if let residual = cache.residual, cache.isFull(step: row) == false {
            backend.addGated(&stream.rows, residual, gate: nil)
            try blockDone(blockCount, blockCount)
            return false
        }
        cache.forget()
        let before = cache.isWanted(after: row) ? stream.rows : nil
        try run(0..<blockCount, &stream, row: row, blockDone: blockDone)
        cache.residual = before.map { difference(stream.rows, $0) }
        return true
    }

    private func runFirstBlockCache(
        _ stream: inout JointStream, row: Int, threshold: Double, cache: inout StepCacheState, blockDone: BlockReport
    ) throws(Failure) -> Bool {
        let isWanted = cache.isWanted(after: row)
        let before = isWanted || cache.firstChange != nil ? stream.rows : nil
        try run(0..<1, &stream, row: row, blockDone: blockDone)
        let change = before.map { difference(stream.rows, $0) }
        if let change, let known = cache.firstChange, let residual = cache.residual {
            let rows = (0..<stream.prompts).map { stream.videoRows($0) }
            let relative = change.relativeChange(from: known, rows: rows)
            cache.lastFirstBlockChange = relative
            // Not `<=`: of two changes that are all zero the quotient is no number, and nothing has changed.
            if !(relative > threshold) {
                backend.addGated(&stream.rows, residual, gate: nil)
                try blockDone(blockCount, blockCount)
                return false
            }
        }
        cache.forget()
        let first = isWanted ? stream.rows : nil
        try run(1..<blockCount, &stream, row: row, blockDone: blockDone)
        cache.residual = first.map { difference(stream.rows, $0) }
        cache.firstChange = isWanted ? change : nil
        return true
    }

    private func runBroadcast(
        _ stream: inout JointStream, row: Int, cache: inout StepCacheState, blockDone: BlockReport
    ) throws(Failure) -> Bool {
        let reuses = cache.isFull(step: row) == false && cache.attention.count == blockCount
        let isWanted = cache.isWanted(after: row)
        var kept: [AttentionReuse] = reuses ? cache.attention : []
        cache.forget()
        if !reuses { kept = Array(repeating: isWanted ? .keep : .compute, count: blockCount) }
        for index in 0..<blockCount {
            try run(index, &stream, row: row, reuse: &kept[index], blockDone: blockDone)
            if !isWanted { kept[index] = .compute }
        }
        if isWanted { cache.attention = kept }
        return !reuses
    }

    private func run(
        _ range: Range<Int>, _ stream: inout JointStream, row: Int, blockDone: BlockReport
    ) throws(Failure) {
        var reuse = AttentionReuse.compute
        for index in range { try run(index, &stream, row: row, reuse: &reuse, blockDone: blockDone) }
    }

    /// `a − b`, rounded once to their dtype.
    private func difference(_ a: Tensor, _ b: Tensor) -> Tensor {
        let width = a.shape[1]
        var result = a
        backend.addGated(&result, b, gate: Tensor([Float](repeating: -1, count: width), shape: [width]))
        return result
    }
}
