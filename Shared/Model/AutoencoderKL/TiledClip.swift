package import Checkpoint
package import Failure
package import Tensor

/// A clip that is put together from decoded tiles.
package struct TiledClip: Sendable {
    /// `[T, H, W, 3]` uint8: × 255, rounded half to even.
    package private(set) var frames: Tensor
    /// `[1, T, H, W, 3]` float32 in [0, 1], or nil.
    package private(set) var floatFrames: Tensor?
    private var blender: TileBlender

    /// - Parameters:
    ///   - count: of frames.
    ///   - keepsFloats: whether `floatFrames` are made.
    package init(_ grid: TileGrid, frames count: Int, keepsFloats: Bool = false) {
        let scale = grid.tiling.pixelsPerLatent
        let shape = [count, grid.height * scale, grid.width * scale, 3]
        frames = Tensor(uninitialized: shape, dtype: .uint8)
        floatFrames = keepsFloats ? Tensor(uninitialized: shape, dtype: .float32) : nil
        blender = TileBlender(grid, scale: scale)
    }

    /// Adds the next tile, row by row: pixels `[T, h, w, 3]` as `decodeTile` gives them.
    package mutating func add(_ tile: Tensor) {
        let part = blender.add(tile.converted(to: .float32))
        let pixels = part.values.scaled(by: 0.5, plus: 0.5, clampedTo: 0...1)
        var bytes = Tensor(uninitialized: pixels.shape, dtype: .uint8)
        bytes.withUnsafeMutableBytes { target in
            pixels.withUnsafeBytes { source in
                let values = source.bindMemory(to: Float.self)
                for index in 0..<values.count {
                    target[index] = UInt8((values[index] * 255).rounded(.toNearestOrEven))
                }
            }
        }
        frames.paste(bytes, row: part.row, column: part.column)
        floatFrames?.paste(pixels, row: part.row, column: part.column)
    }

    /// Cuts tiles apart that travelled as one tensor, one behind the other: the next of the clip, each `[T, h, w, 3]`.
    ///
    /// Fails with `tensor_misshapen` when there are more or fewer values than `places` have.
    package static func tiles(
        in values: Tensor, places: ArraySlice<TileGrid.Tile>, scale: Int, frames: Int, name: String
    ) throws(Failure) -> [Tensor] {
        let counts = places.map { frames * $0.area * scale * scale * 3 }
        guard values.shape.count == 1, values.count == counts.reduce(0, +) else {
            throw Failure(
                "tensor_misshapen",
                "\(name) has the shape \(values.shape) and must have [\(counts.reduce(0, +))]: \(frames) frames of "
                    + "\(places.count) tiles", field: name, remedy: "Run gateway, broker and workers of one version.")
        }
        var tiles: [Tensor] = [], start = 0
        for (place, count) in zip(places, counts) {
            tiles.append(
                values.rows(start..<start + count)
                    .reshaped([frames, place.rows.count * scale, place.columns.count * scale, 3]))
            start += count
        }
        return tiles
    }
}
