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
        let memory = tileMemory(grid, parameters), weights = try folder.weightBytes(.vae, dtype: parameters.dtype.dtype)
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

    /// Some tiles as they are.
    func decodeShare(
        _ share: TileShare, of grid: TileGrid, _ latents: Tensor, _ parameters: DecodeParameters, _ task: StageTask
    ) throws(Failure) -> StageResult {
        let tiles = grid.tiles
        guard share.first >= 0, share.count >= 1, share.first <= tiles.count - share.count else {
            throw Failure(
                "parameters_invalid", "tiles \(share.first) and \(share.count - 1) more, of \(tiles.count)",
                field: "tiles", remedy: "Run gateway, broker and workers of one version.")
        }
        let memory = tileMemory(grid, parameters), weights = try folder.weightBytes(.vae, dtype: parameters.dtype.dtype)
        try check(memory, weights, grid, parameters)
        guard share.clipBytes <= budget.outputs else {
            throw Failure(
                "memory_insufficient",
                "the tiles of the clip come to \(MemoryPlan.readable(share.clipBytes)), and this worker keeps "
                    + "\(MemoryPlan.readable(budget.outputs)) for others to fetch, a quarter of its memory",
                field: "memory-limit",
                remedy: "Ask for a smaller size or fewer frames, or give the worker more memory.",
                retry: .biggerWorker)
        }
        let decoder = try decoder(parameters.dtype.dtype)
        let directory = cacheDirectory(memory, weights: weights)
        var parts: [Tensor] = []
        for (index, tile) in tiles[share.first..<share.first + share.count].enumerated() {
            let pixels = try decode(
                tile, latents, decoder, cacheDirectory: directory, task, before: index, of: share.count)
            parts.append(pixels.reshaped([pixels.count]))
        }
        var result = StageResult()
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

    /// What the largest tile takes.
    private func tileMemory(_ grid: TileGrid, _ parameters: DecodeParameters) -> DecoderMemory {
        DecoderMemory(
            folder.vae, height: min(grid.height, grid.tiling.height.length),
            width: min(grid.width, grid.tiling.width.length), elementBytes: parameters.dtype.dtype.byteCount)
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
