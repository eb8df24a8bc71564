import CKernels
import Tensor

/// Sums and sums of squares of every channel, in double, by pieces of rows.
struct ChannelSums {
    /// Of each stretch of rows.
    let pieces: Int
    fileprivate let channels: Int
    fileprivate var values: [Double]  // [stretches · pieces, 2, channels]

    func sum(piece: Int, channel: Int) -> Double { values[piece * 2 * channels + channel] }
    func squares(piece: Int, channel: Int) -> Double { values[(piece * 2 + 1) * channels + channel] }
}

extension CPUBackend {
    /// Of stretches of rows, equally long, of tensors `[…, channels]` of one shape and type. Pieces have a fixed size and
    /// are to be added in their order, so that nothing depends on the number of threads.
    func channelSums(_ stretches: [(tensor: Tensor, rows: Range<Int>)], rowsPerPiece step: Int) -> ChannelSums {
        let (_, channels) = rowsAndChannels(stretches[0].tensor), kind = type(of: stretches[0].tensor)
        let pieces = (stretches[0].rows.count + step - 1) / step
        var values = [Double](repeating: 0, count: stretches.count * pieces * 2 * channels)
        values.withUnsafeMutableBufferPointer { sums in
            guard let base = sums.baseAddress else { return }
            withExtendedLifetime(stretches) {
                pool.run(stretches.count * pieces) { part, _ in
                    let (tensor, rows) = stretches[part / pieces]
                    let place = base + part * 2 * channels, first = rows.lowerBound + part % pieces * step
                    kernels.channel_sums(
                        kind, tensor.readAddress, Int64(channels), Int64(first),
                        Int64(min(rows.upperBound, first + step)), place, place + channels)
                }
            }
        }
        return ChannelSums(pieces: pieces, channels: channels, values: values)
    }
}
