package import Checkpoint
package import Failure
package import Tensor

extension AutoencoderKLDecoder {
    /// Decodes one tile of pipeline latents `[frames, latentChannels, height, width]` as a clip of its own.
    ///
    /// Gives `[T, h, w, 3]` in the decoder's dtype, neither blended nor clamped: what `TiledClip` takes. `progress` is told
    /// (chunks done, chunks) and may throw to stop. Fails as `run` does.
    package func decodeTile(
        _ tile: TileGrid.Tile, of latents: Tensor, cacheDirectory: String? = nil,
        progress: (Int, Int) throws(Failure) -> Void = { (_, _) throws(Failure) in }
    ) throws(Failure) -> Tensor {
        let shape = latents.shape
        precondition(shape.count == 4, "latents \(shape)")
        let part = latents.reshaped([shape[0] * shape[1], shape[2], shape[3], 1])
            .cropped(rows: tile.rows, columns: tile.columns)
            .reshaped([shape[0], shape[1], tile.rows.count, tile.columns.count])
        var run = try run(latents: part, cacheDirectory: cacheDirectory)
        var chunks: [Tensor] = []
        while let chunk = try run.nextPixels() {
            // Whatever the last layer computed in this dtype is kept as it is.
            chunks.append(chunk.converted(to: dtype))
            try progress(run.chunksDone, run.chunkCount)
        }
        return Tensor.concatenated(chunks)
    }
}

extension AutoencoderKLEncoder {
    /// Encodes frames `[T, H, W, 3]` float32 in [−1, 1] tile by tile, as `AutoencoderKLCogVideoX.tiled_encode`; `progress`
    /// is told (chunks done, chunks) over all tiles and may throw to stop. Fails as `run` does.
    package func encodeTiled(
        frames: Tensor, _ grid: TileGrid, progress: (Int, Int) throws(Failure) -> Void = { (_, _) throws(Failure) in }
    ) throws(Failure) -> LatentDistribution {
        let scale = config.spatialCompressionRatio
        precondition(
            frames.shape.count == 4 && frames.shape[1] == grid.height * scale
                && frames.shape[2] == grid.width * scale, "frames \(frames.shape)")
        var blender = TileBlender(grid, scale: 1)
        var moments: Tensor?
        var shape: [Int] = []
        for (index, tile) in grid.tiles.enumerated() {
            let part = frames.cropped(
                rows: tile.rows.lowerBound * scale..<tile.rows.upperBound * scale,
                columns: tile.columns.lowerBound * scale..<tile.columns.upperBound * scale)
            let found = try encode(frames: part) { (done, chunks) throws(Failure) in
                try progress(index * chunks + done, grid.count * chunks)
            }.moments
            // Frames and channels stand in front of both sides alike.
            let blended = blender.add(
                found.reshaped([found.shape[0] * found.shape[1], found.shape[2], found.shape[3], 1]))
            if moments == nil {
                shape = [found.shape[0], found.shape[1], grid.height, grid.width]
                moments = Tensor(uninitialized: [shape[0] * shape[1], grid.height, grid.width, 1], dtype: .float32)
            }
            moments?.paste(blended.values, row: blended.row, column: blended.column)
        }
        guard let moments else { preconditionFailure("a grid without tiles") }
        return LatentDistribution(moments: moments.reshaped(shape))
    }
}
