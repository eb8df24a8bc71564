import Tensor

#if canImport(Glibc)
import Glibc
#elseif canImport(Musl)
import Musl
#endif

/// T5's learned bias on attention scores, shared by all layers (`T5Attention._relative_position_bucket`).
struct RelativePositionBias: Sendable {
    /// `[buckets, heads]`, float32.
    private let table: [Float]
    private let buckets: Int
    private let maximumDistance: Int
    private let heads: Int

    init(table: Tensor, maximumDistance: Int) {
        self.table = table.floats()
        buckets = table.shape[0]
        heads = table.shape[1]
        self.maximumDistance = maximumDistance
    }

    /// The bucket of `relative` = key position − query position: half the buckets for each direction, the first half of
    /// those exact, the rest logarithmic up to the maximum distance.
    func bucket(relative: Int) -> Int {
        let half = buckets / 2
        let exact = half / 2
        let base = relative > 0 ? half : 0
        let distance = abs(relative)
        if distance < exact { return base + distance }
        let position = log(Float(distance) / Float(exact)) / Float(log(Double(maximumDistance) / Double(exact)))
        return base + min(half - 1, exact + Int(position * Float(half - exact)))
    }

    /// The bias `[heads, length, length]`, rows by query and columns by key.
    func callAsFunction(length: Int) -> Tensor {
        let bucketOfOffset = (-(length - 1)...(length - 1)).map { bucket(relative: $0) }
        var result = Tensor(uninitialized: [heads, length, length])
        result.withUnsafeMutableBytes { bytes in
            let values = bytes.bindMemory(to: Float.self)
            var index = 0
            for head in 0..<heads {
                for query in 0..<length {
                    for key in 0..<length {
                        values[index] = table[bucketOfOffset[key - query + length - 1] * heads + head]
                        index += 1
                    }
                }
            }
        }
        return result
    }
}
