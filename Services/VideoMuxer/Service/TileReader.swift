import Checkpoint
import Failure
import Model
import Request
import Stage
import Tensor

/// Reads the tiles of a clip, which lie with the decoders that made them, and joins them as they come.
struct TileReader {
    private let sources: TileSources
    private let frames: Int

    /// Fails with `parameters_invalid` when sources and grid do not belong together.
    init(_ sources: TileSources, request: GenerationRequest) throws(Failure) {
        self.sources = sources
        frames = request.numFrames
        let counts = sources.counts
        guard sources.grid.isSound, (1...1 << 14).contains(frames), counts.allSatisfy({ $0 >= 1 && $0 <= 1 << 20 }),
            counts.reduce(0, +) == sources.grid.count
        else {
            throw Failure(
                "parameters_invalid",
                "\(counts) tiles for a grid of \(sources.grid.height)×\(sources.grid.width) latents",
                field: "tiles", remedy: "Run gateway, broker and workers of one version.")
        }
    }

    /// The clip `[T, H, W, 3]` uint8; one step of the task for each input.
    func frames(of task: StageTask) async throws(Failure) -> Tensor {
        let tiles = sources.grid.tiles, scale = sources.grid.tiling.pixelsPerLatent
        var clip = TiledClip(sources.grid, frames: frames), first = 0
        for (index, count) in sources.counts.enumerated() {
            try task.checkCancelled()
            let name = TileSources.inputName(index)
            let values = try await task.input(
                name, TensorExpectation([.float32, .bfloat16], [.any("values")]))
            let parts = try TiledClip.tiles(
                in: values, places: tiles[first..<first + count], scale: scale, frames: frames, name: name)
            for part in parts { clip.add(part) }
            first += count
            task.report(step: index + 1, of: sources.counts.count + frames + 1)
        }
        return clip.frames
    }
}
