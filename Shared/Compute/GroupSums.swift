package import Tensor

/// Sums and sums of squares of the values of each group of channels, in double.
package struct GroupSums: Sendable, Hashable {
    /// One a group.
    package var sums: [Double]
    package var squares: [Double]
    /// Values that each group has.
    package var count: Double

    /// Of no values yet.
    package init(groups: Int, count: Double = 0) {
        sums = Array(repeating: 0, count: groups)
        squares = sums
        self.count = count
    }

    /// From the numbers that `values` gave.
    package init(values: [Double]) {
        precondition(values.count % 2 == 1, "\(values.count) numbers are no sums of groups")
        let groups = values.count / 2
        sums = Array(values[..<groups])
        squares = Array(values[groups..<2 * groups])
        count = values[2 * groups]
    }

    /// Sums, squares and the count, to be added to those of others.
    package var values: [Double] { sums + squares + [count] }
}

/// A normalisation as `x · factor + offset` per channel; both `[C]` float32.
package struct ChannelAffine: Sendable {
    package let factor: Tensor
    package let offset: Tensor

    /// GroupNorm by the statistics of `sums`; `weight` and `bias` are `[C]` float32.
    package init(_ sums: GroupSums, epsilon: Float, weight: Tensor, bias: Tensor) {
        let channels = weight.count, size = channels / sums.sums.count
        let w = weight.vector(channels, "weight"), b = bias.vector(channels, "bias")
        var factor = [Float](repeating: 0, count: channels), offset = factor
        withExtendedLifetime((weight, bias)) {
            for group in sums.sums.indices {
                let mean = sums.sums[group] / sums.count
                let variance = max(0, sums.squares[group] / sums.count - mean * mean)
                let inverse = 1 / (variance + Double(epsilon)).squareRoot()
                for channel in group * size..<(group + 1) * size {
                    factor[channel] = Float(inverse) * w[channel]
                    offset[channel] = Float(Double(b[channel]) - mean * inverse * Double(w[channel]))
                }
            }
        }
        self.factor = Tensor(factor, shape: [channels])
        self.offset = Tensor(offset, shape: [channels])
    }
}
