import Checkpoint
import Failure
import Model
import Request
import Stage
import Tensor

// Decoding in tiles, each a clip of its own.
extension VAEDecoderHandler {
    /// All tiles one after the other, put together.
    func decodeTiled(
        _ grid: TileGrid, _ latents: Tensor, _ parameters: DecodeParameters, _ task: StageTask
    ) throws(Failure) -> StageResult {
        let memory = tileMemory(grid.tiles[...], parameters)
        let weights = try folder.weightBytes(.vae, dtype: parameters.dtype.dtype)
        try check(memory, weights, grid, parameters)
        let decoder = try decoder(parameters.dtype.dtype)
        var clip = TiledClip(
            grid, frames: decoder.frameCount(latentFrames: latents.shape[0]), keepsFloats: parameters.keepFloatFrames)
        let directory = cacheDirectory(memory, weights: weights)
        for (index, tile) in grid.tiles.enumerated() {
            clip.add(
                try decode(tile, latents, decoder, cacheDirectory: directory, task, before: index, of: grid.count))
        }
        var result = StageResult()
        result.add("frames", clip.frames)
        if let floats = clip.floatFrames { result.add("frames_float32", floats.reshaped([1] + floats.shape)) }
        return result
    }

    /// Some tiles as they are, one after the other.
    ///
    /// They stay here until the muxer has read them. Where this decoder could not keep all tiles of the clip in memory,
    /// they wait in a file: whoever else could take the others may be gone by then.
    func decodeShare(
        _ share: TileShare, of grid: TileGrid, _ latents: Tensor, _ parameters: DecodeParameters, _ task: StageTask
    ) throws(Failure) -> StageResult {
        let tiles = grid.tiles
        guard share.first >= 0, share.count >= 1, share.first <= tiles.count - share.count else {
            throw Failure(
                "parameters_invalid", "tiles \(share.first) and \(share.count - 1) more, of \(tiles.count)",
                field: "tiles", remedy: "Run gateway, broker and workers of one version.")
        }
        let own = tiles[share.first..<share.first + share.count], dtype = parameters.dtype.dtype
        let memory = tileMemory(own, parameters), weights = try folder.weightBytes(.vae, dtype: dtype)
        try check(memory, weights, grid, parameters)
        let decoder = try decoder(dtype)
        let directory = cacheDirectory(memory, weights: weights)
        var result = StageResult(), parts: [Tensor] = []
        guard share.clipBytes <= budget.outputs else {
            var file = try SpillFile(directory: Self.temporaryFolder), count = 0
            for (index, tile) in own.enumerated() {
                let pixels = try decode(
                    tile, latents, decoder, cacheDirectory: directory, task, before: index, of: share.count)
                try file.append(pixels)
                count += pixels.count
            }
            result.add("tiles", try file.tensor(shape: [count], dtype: dtype))
            return result
        }
        for (index, tile) in own.enumerated() {
            let pixels = try decode(
                tile, latents, decoder, cacheDirectory: directory, task, before: index, of: share.count)
            parts.append(pixels.reshaped([pixels.count]))
        }
        result.add("tiles", parts.count == 1 ? parts[0] : Tensor.concatenated(parts))
        return result
    }

    /// - Parameters:
    ///   - done: tiles that the task has made before this one, of `count`.
    private func decode(
        _ tile: TileGrid.Tile, _ latents: Tensor, _ decoder: AutoencoderKLDecoder, cacheDirectory: String?,
        _ task: StageTask, before done: Int, of count: Int
    ) throws(Failure) -> Tensor {
        try decoder.decodeTile(tile, of: latents, cacheDirectory: cacheDirectory) { (chunk, chunks) throws(Failure) in
            task.report(step: done * chunks + chunk, of: count * chunks)
            try task.checkCancelled()
        }
    }

    /// What the largest of `tiles` takes.
    private func tileMemory(_ tiles: ArraySlice<TileGrid.Tile>, _ parameters: DecodeParameters) -> DecoderMemory {
        DecoderMemory(
            folder.vae, height: tiles.reduce(1) { max($0, $1.rows.count) },
            width: tiles.reduce(1) { max($0, $1.columns.count) }, elementBytes: parameters.dtype.dtype.byteCount)
    }

    private func check(
        _ memory: DecoderMemory, _ weights: Int, _ grid: TileGrid, _ parameters: DecodeParameters
    ) throws(Failure) {
        try budget.check(
            weights + memory.working,
            for: "decoding latents of \(grid.width)×\(grid.height) in tiles in \(parameters.dtype.rawValue)",
            remedy: parameters.dtype == .float32 ? "Ask for bfloat16" : "Ask for a smaller size")
    }
}
