import CKernels
package import Tensor

extension CPUBackend {
    package func applied(_ affine: ChannelAffine, to frame: Tensor, silu: Bool) -> Tensor {
        let (rows, channels) = rowsAndChannels(frame)
        let f = affine.factor.vector(channels, "factor"), o = affine.offset.vector(channels, "offset")
        return withExtendedLifetime(affine) {
            mapped(frame, rows: rows, channels: channels) { type, from, to, part in
                kernels.channel_affine(
                    type, from, to, Int64(channels), f, o, silu, Int64(part.lowerBound), Int64(part.upperBound))
            }
        }
    }

    package func applied(
        _ affine: ChannelAffine, to frame: Tensor, scale: Tensor, shift: Tensor, silu: Bool
    ) -> Tensor {
        precondition(
            frame.shape.count == 3 && scale.shape.count == 3 && scale.shape == shift.shape
                && scale.dtype == shift.dtype && scale.shape[2] == frame.shape[2],
            "a spatial norm of \(frame.shape) by \(scale.shape) and \(shift.shape)")
        let height = frame.shape[0], width = frame.shape[1], channels = frame.shape[2]
        let latentHeight = scale.shape[0], latentWidth = scale.shape[1], latentType = type(of: scale)
        let rowBytes = width * channels * frame.dtype.byteCount
        let latentRowBytes = latentWidth * channels * scale.dtype.byteCount
        let f = affine.factor.vector(channels, "factor"), o = affine.offset.vector(channels, "offset")
        return withExtendedLifetime((scale, shift, affine)) {
            let s = scale.readAddress, h = shift.readAddress
            return mapped(frame, rows: height, channels: width * channels) { type, from, to, part in
                for row in part {
                    let latentRow = row * latentHeight / height
                    kernels.spatial_affine(
                        type, from + row * rowBytes, to + row * rowBytes, Int64(width), Int64(channels), f, o,
                        latentType, s + latentRow * latentRowBytes, h + latentRow * latentRowBytes,
                        Int64(latentWidth), silu)
                }
            }
        }
    }

    /// Statistics over each group's channels and all pixels.
    package func groupAffine(
        _ frames: [Tensor], groups: Int, epsilon: Float, weight: Tensor, bias: Tensor
    ) -> ChannelAffine {
        let (rows, channels) = rowsAndChannels(frames[0])
        precondition(groups > 0 && channels % groups == 0, "\(channels) channels in \(groups) groups")
        precondition(frames.allSatisfy { $0.shape == frames[0].shape && $0.dtype == frames[0].dtype }, "frames differ")
        let w = weight.vector(channels, "weight"), b = bias.vector(channels, "bias")
        let sums = channelSums(frames.map { ($0, 0..<rows) }, rowsPerPiece: grain(channels: channels))
        var factor = [Float](repeating: 0, count: channels), offset = factor
        let size = channels / groups, count = Double(frames.count * rows * size)
        withExtendedLifetime((weight, bias)) {
            for group in 0..<groups {
                var sum = 0.0, squares = 0.0
                for piece in 0..<frames.count * sums.pieces {
                    for channel in group * size..<(group + 1) * size {
                        sum += sums.sum(piece: piece, channel: channel)
                        squares += sums.squares(piece: piece, channel: channel)
                    }
                }
                let mean = sum / count, variance = max(0, squares / count - mean * mean)
                let inverse = 1 / (variance + Double(epsilon)).squareRoot()
                for channel in group * size..<(group + 1) * size {
                    factor[channel] = Float(inverse) * w[channel]
                    offset[channel] = Float(Double(b[channel]) - mean * inverse * Double(w[channel]))
                }
            }
        }
        return ChannelAffine(
            factor: Tensor(factor, shape: [channels]), offset: Tensor(offset, shape: [channels]))
    }
}
