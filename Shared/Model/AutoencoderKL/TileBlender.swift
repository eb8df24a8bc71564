package import Checkpoint
package import Tensor

/// Puts overlapping tiles together as diffusers' `tiled_decode` and `tiled_encode` do, holding no tile but the newest.
///
/// Tiles come row by row. Each is blended with the lower rows of the one above it, then with the right columns of the one
/// to its left (`out = neighbour · (1 − i/n) + tile · i/n`, in single precision); both neighbours are blended themselves
/// by then, as they are in the reference, which blends in place.
package struct TileBlender: Sendable {
    /// What one tile gives to the clip.
    package struct Part: Sendable {
        /// Where it begins in the clip.
        package let row: Int
        package let column: Int
        /// `[n, rows, columns, channels]` float32.
        package let values: Tensor
    }

    private let grid: TileGrid
    /// Rows of the result for one latent row: pixels for decoding, 1 for encoding.
    private let scale: Int
    private let tiles: [TileGrid.Tile]
    /// Tiles that have come.
    package private(set) var count = 0
    /// Of each column, the last rows of its newest tile.
    private var lower: [Tensor?]
    /// The last columns of the newest tile of this row.
    private var right: Tensor?

    package init(_ grid: TileGrid, scale: Int) {
        self.grid = grid
        self.scale = scale
        tiles = grid.tiles
        lower = Array(repeating: nil, count: grid.columns.count)
    }

    /// The shape that the next tile must have behind its first axis, without the channels: rows, columns.
    package var nextSize: (rows: Int, columns: Int)? {
        guard tiles.indices.contains(count) else { return nil }
        return (tiles[count].rows.count * scale, tiles[count].columns.count * scale)
    }

    /// Blends the next tile `[n, rows, columns, channels]` float32 and gives what of it belongs to the clip.
    package mutating func add(_ tile: Tensor) -> Part {
        let place = tiles[count], tiling = grid.tiling
        precondition(
            tile.dtype == .float32 && tile.shape.count == 4 && tile.shape[1] == place.rows.count * scale
                && tile.shape[2] == place.columns.count * scale, "tile \(tile.dtype) \(tile.shape)")
        var blended = tile
        if place.column == 0 { right = nil }
        if let above = lower[place.column] { Self.blend(&blended, below: above) }
        if let left = right { Self.blend(&blended, rightOf: left) }
        let rows = tile.shape[1], columns = tile.shape[2]
        lower[place.column] = blended.cropped(
            rows: max(0, rows - tiling.height.overlap * scale)..<rows, columns: 0..<columns)
        right = blended.cropped(
            rows: 0..<rows, columns: max(0, columns - tiling.width.overlap * scale)..<columns)
        count += 1
        return Part(
            row: place.rows.lowerBound * scale, column: place.columns.lowerBound * scale,
            values: blended.cropped(
                rows: 0..<min(rows, tiling.height.stride * scale),
                columns: 0..<min(columns, tiling.width.stride * scale)))
    }

    /// The first rows with the last of `above`.
    private static func blend(_ tile: inout Tensor, below above: Tensor) {
        let shape = tile.shape, extent = min(above.shape[1], shape[1]), row = shape[2] * shape[3]
        precondition(above.shape[0] == shape[0] && above.shape[2] == shape[2], "tiles of one column are equally wide")
        tile.withUnsafeMutableBytes { target in
            let values = target.bindMemory(to: Float.self)
            above.withUnsafeBytes { source in
                let others = source.bindMemory(to: Float.self)
                for frame in 0..<shape[0] {
                    for step in 0..<extent {
                        let weights = Self.weights(step, of: extent)
                        let own = (frame * shape[1] + step) * row
                        let other = ((frame + 1) * above.shape[1] - extent + step) * row
                        for index in 0..<row {
                            values[own + index] =
                                others[other + index] * weights.other + values[own + index] * weights.own
                        }
                    }
                }
            }
        }
    }

    /// The first columns with the last of `left`.
    private static func blend(_ tile: inout Tensor, rightOf left: Tensor) {
        let shape = tile.shape, extent = min(left.shape[2], shape[2]), channels = shape[3]
        precondition(left.shape[0] == shape[0] && left.shape[1] == shape[1], "tiles of one row are equally high")
        let weights = (0..<extent).map { Self.weights($0, of: extent) }
        tile.withUnsafeMutableBytes { target in
            let values = target.bindMemory(to: Float.self)
            left.withUnsafeBytes { source in
                let others = source.bindMemory(to: Float.self)
                for row in 0..<shape[0] * shape[1] {
                    let own = row * shape[2] * channels, other = ((row + 1) * left.shape[2] - extent) * channels
                    for step in 0..<extent {
                        for index in step * channels..<(step + 1) * channels {
                            values[own + index] =
                                others[other + index] * weights[step].other + values[own + index] * weights[step].own
                        }
                    }
                }
            }
        }
    }

    /// In double precision first, as Python computes them.
    private static func weights(_ step: Int, of extent: Int) -> (other: Float, own: Float) {
        let share = Double(step) / Double(extent)
        return (Float(1 - share), Float(share))
    }
}

extension Tensor {
    /// Part of the two axes behind the first, of `[n, rows, columns, channels]`.
    func cropped(rows: Range<Int>, columns: Range<Int>) -> Tensor {
        var result = Tensor(uninitialized: [shape[0], rows.count, columns.count, shape[3]], dtype: dtype)
        let pixel = shape[3] * dtype.byteCount, length = columns.count * pixel
        withUnsafeBytes { source in
            result.withUnsafeMutableBytes { target in
                for frame in 0..<shape[0] {
                    for (index, row) in rows.enumerated() {
                        let from = ((frame * shape[1] + row) * shape[2] + columns.lowerBound) * pixel
                        let to = (frame * rows.count + index) * length
                        UnsafeMutableRawBufferPointer(rebasing: target[to..<to + length])
                            .copyMemory(from: UnsafeRawBufferPointer(rebasing: source[from..<from + length]))
                    }
                }
            }
        }
        return result
    }

    /// Writes `part` of the same type into `[n, rows, columns, channels]`.
    mutating func paste(_ part: Tensor, row: Int, column: Int) {
        precondition(part.dtype == dtype && part.shape[0] == shape[0] && part.shape[3] == shape[3], "parts do not fit")
        let shape = shape, pixel = shape[3] * dtype.byteCount, length = part.shape[2] * pixel
        withUnsafeMutableBytes { target in
            part.withUnsafeBytes { source in
                for frame in 0..<shape[0] {
                    for index in 0..<part.shape[1] {
                        let to = ((frame * shape[1] + row + index) * shape[2] + column) * pixel
                        let from = (frame * part.shape[1] + index) * length
                        UnsafeMutableRawBufferPointer(rebasing: target[to..<to + length])
                            .copyMemory(from: UnsafeRawBufferPointer(rebasing: source[from..<from + length]))
                    }
                }
            }
        }
    }
}
