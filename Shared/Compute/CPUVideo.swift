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
        _ affine: ChannelAffine, to frame: Tensor, scale: Tensor, shift: Tensor, silu: Bool, rows: ImageRows
    ) -> Tensor {
        precondition(
            frame.shape.count == 3 && scale.shape.count == 3 && scale.shape == shift.shape
                && scale.dtype == shift.dtype && scale.shape[2] == frame.shape[2],
            "a spatial norm of \(frame.shape) by \(scale.shape) and \(shift.shape)")
        precondition(
            rows.first >= 0 && rows.first + frame.shape[0] <= rows.height,
            "rows \(rows.first) to \(rows.first + frame.shape[0]) of \(rows.height)")
        let height = frame.shape[0], width = frame.shape[1], channels = frame.shape[2]
        let latentHeight = scale.shape[0], latentWidth = scale.shape[1], latentType = type(of: scale)
        let rowBytes = width * channels * frame.dtype.byteCount
        let latentRowBytes = latentWidth * channels * scale.dtype.byteCount
        let f = affine.factor.vector(channels, "factor"), o = affine.offset.vector(channels, "offset")
        return withExtendedLifetime((scale, shift, affine)) {
            let s = scale.readAddress, h = shift.readAddress
            return mapped(frame, rows: height, channels: width * channels) { type, from, to, part in
                for row in part {
                    let latentRow = (row + rows.first) * latentHeight / rows.height
                    kernels.spatial_affine(
                        type, from + row * rowBytes, to + row * rowBytes, Int64(width), Int64(channels), f, o,
                        latentType, s + latentRow * latentRowBytes, h + latentRow * latentRowBytes,
                        Int64(latentWidth), silu)
                }
            }
        }
    }

    package func groupSums(_ frames: [Tensor], groups: Int, margins: RowMargins) -> GroupSums {
        let shape = frames[0].shape, (rows, channels) = rowsAndChannels(frames[0])
        precondition(groups > 0 && channels % groups == 0, "\(channels) channels in \(groups) groups")
        precondition(frames.allSatisfy { $0.shape == shape && $0.dtype == frames[0].dtype }, "frames differ")
        let rowPixels = margins.count == 0 ? 0 : rows / shape[0]
        let own = margins.top * rowPixels..<rows - margins.bottom * rowPixels
        let sums = channelSums(frames.map { ($0, own) }, rowsPerPiece: grain(channels: channels))
        let size = channels / groups
        var result = GroupSums(groups: groups, count: Double(frames.count * own.count * size))
        for group in 0..<groups {
            for piece in 0..<frames.count * sums.pieces {
                for channel in group * size..<(group + 1) * size {
                    result.sums[group] += sums.sum(piece: piece, channel: channel)
                    result.squares[group] += sums.squares(piece: piece, channel: channel)
                }
            }
        }
        return result
    }
}
