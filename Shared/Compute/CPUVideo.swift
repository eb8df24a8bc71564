import CKernels
package import Tensor

extension CPUBackend {
    package func groupNorm(
        _ x: Tensor, groups: Int, epsilon: Float, weight: Tensor, bias: Tensor, silu: Bool
    ) -> Tensor {
        let (rows, channels) = rowsAndChannels(x)
        let affine = channelAffine(x, groups: groups, epsilon: epsilon, weight: weight, bias: bias)
        return affine.factor.withUnsafeBufferPointer { factor in
            affine.offset.withUnsafeBufferPointer { offset in
                guard let f = factor.baseAddress, let o = offset.baseAddress else { return x }
                return mapped(x, rows: rows, channels: channels) { type, from, to, part in
                    kernels.channel_affine(
                        type, from, to, Int64(channels), f, o, silu, Int64(part.lowerBound), Int64(part.upperBound))
                }
            }
        }
    }

    package func spatialNorm(
        _ x: Tensor, groups: Int, epsilon: Float, weight: Tensor, bias: Tensor,
        scale: Tensor, shift: Tensor, frameMap: [Int], silu: Bool
    ) -> Tensor {
        precondition(
            x.shape.count == 4 && scale.shape.count == 4 && scale.shape == shift.shape && scale.dtype == shift.dtype,
            "a spatial norm of \(x.shape) by \(scale.shape) and \(shift.shape)")
        let height = x.shape[1], width = x.shape[2], channels = x.shape[3]
        let latentHeight = scale.shape[1], latentWidth = scale.shape[2], latentType = type(of: scale)
        precondition(scale.shape[3] == channels && frameMap.count == x.shape[0], "a spatial norm of \(x.shape)")
        precondition(frameMap.allSatisfy { 0 <= $0 && $0 < scale.shape[0] }, "frames \(frameMap) of \(scale.shape)")
        let affine = channelAffine(x, groups: groups, epsilon: epsilon, weight: weight, bias: bias)
        let rowBytes = width * channels * x.dtype.byteCount
        let latentRowBytes = latentWidth * channels * scale.dtype.byteCount
        let factors = Tensor(affine.factor, shape: [channels]), offsets = Tensor(affine.offset, shape: [channels])
        let f = factors.vector(channels, "factor"), o = offsets.vector(channels, "offset")
        return withExtendedLifetime((scale, shift, factors, offsets)) {
            let s = scale.readAddress, h = shift.readAddress
            return mapped(x, rows: x.shape[0] * height, channels: width * channels) { type, from, to, part in
                for row in part {
                    let latentRow = frameMap[row / height] * latentHeight + row % height * latentHeight / height
                    kernels.spatial_affine(
                        type, from + row * rowBytes, to + row * rowBytes, Int64(width), Int64(channels), f, o,
                        latentType, s + latentRow * latentRowBytes, h + latentRow * latentRowBytes,
                        Int64(latentWidth), silu)
                }
            }
        }
    }

    package func upsampled(_ x: Tensor, frames: [Int]) -> Tensor {
        precondition(
            x.shape.count == 4 && frames.allSatisfy { 0 <= $0 && $0 < x.shape[0] }, "frames \(frames) of \(x.shape)")
        let height = x.shape[1], width = x.shape[2], channels = x.shape[3]
        let pixel = channels * x.dtype.byteCount, row = width * pixel
        var result = Tensor(uninitialized: [frames.count, 2 * height, 2 * width, channels], dtype: x.dtype)
        let target = result.writeAddress()
        withExtendedLifetime(x) {
            let source = x.readAddress
            pool.run(rows: frames.count * height, grain: grain(channels: 4 * width * channels)) { part, _ in
                for index in part {
                    let from = source + (frames[index / height] * height + index % height) * row
                    let to = target + index * 4 * row
                    ck_repeat_pixels(from, to, Int64(width), Int64(pixel))
                    (to + 2 * row).copyMemory(from: to, byteCount: 2 * row)
                }
            }
        }
        return result
    }

    /// GroupNorm as `x · factor + offset` per channel: statistics over each group's channels and all pixels.
    /// Partial sums are double and belong to fixed ranges of pixels, added in their order.
    private func channelAffine(
        _ x: Tensor, groups: Int, epsilon: Float, weight: Tensor, bias: Tensor
    ) -> (factor: [Float], offset: [Float]) {
        let (rows, channels) = rowsAndChannels(x), kind = type(of: x)
        precondition(groups > 0 && channels % groups == 0, "\(channels) channels in \(groups) groups")
        let w = weight.vector(channels, "weight"), b = bias.vector(channels, "bias")
        let step = grain(channels: channels), parts = (rows + step - 1) / step
        var partial = [Double](repeating: 0, count: parts * 2 * channels)
        partial.withUnsafeMutableBufferPointer { sums in
            guard let base = sums.baseAddress else { return }
            withExtendedLifetime(x) {
                let source = x.readAddress
                pool.run(rows: rows, grain: step) { part, _ in
                    let place = base + part.lowerBound / step * 2 * channels
                    kernels.channel_sums(
                        kind, source, Int64(channels), Int64(part.lowerBound), Int64(part.upperBound), place,
                        place + channels)
                }
            }
        }
        var factor = [Float](repeating: 0, count: channels), offset = factor
        let size = channels / groups, count = Double(rows * size)
        withExtendedLifetime((weight, bias)) {
            for group in 0..<groups {
                var sum = 0.0, squares = 0.0
                for part in 0..<parts {
                    for channel in group * size..<(group + 1) * size {
                        sum += partial[part * 2 * channels + channel]
                        squares += partial[(part * 2 + 1) * channels + channel]
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
        return (factor, offset)
    }
}
