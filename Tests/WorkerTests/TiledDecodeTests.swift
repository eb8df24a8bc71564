import Checkpoint
import Compute
import DemoModel
import Diffusion
import Failure
import Model
import Request
import Stage
import Tensor
import TestSupport
import Testing
import VAEDecoderService
import VAEEncoderService

/// The decoder and the encoder asked for tiles, on the demo model inside this process.
@Suite(.serialized, .timeLimit(.minutes(2)))
struct TiledDecodeTests {
    private let folder: ModelFolder
    private let backend = CPUBackend(threads: 2)
    /// Latents of three by two tiles.
    private let latents: Tensor
    private let grid: TileGrid

    init() throws {
        folder = try ModelFolder(path: DemoModel.path())
        latents = randomTensor([1, 3, folder.vae.latentChannels, 12, 8], seed: 5)
        grid = try #require(AutoencoderTiling(folder.vae).grid(height: 12, width: 8))
    }

    private func task(
        _ parameters: some Encodable, _ inputs: [String: Tensor], _ progress: TaskProgress = TaskProgress()
    ) throws -> StageTask {
        StageTask(
            name: "job/task", attempt: 1, parameters: try CanonicalJSON.encode(parameters),
            port: LocalPort(inputs: inputs), progress: progress)
    }

    private func handler(limit: Int? = nil, tilesWhenShort: Bool = false) throws -> VAEDecoderHandler {
        try VAEDecoderHandler(
            folder: folder, backend: backend, budget: MemoryBudget(limit: limit), tilesWhenShort: tilesWhenShort)
    }

    private func decode(
        _ handler: VAEDecoderHandler, dtype: Precision = .float32, tiled: Bool? = true, floats: Bool = false,
        share: TileShare? = nil
    ) async throws -> StageResult {
        let parameters = DecodeParameters(
            dtype: dtype, numFrames: 9, keepFloatFrames: floats, isTiled: tiled, tiles: share)
        return try await handler.run(task(parameters, ["latents": latents]))
    }

    @Test(
        "tiles that several decoders made become the frames of one that made them all",
        arguments: [Precision.float32, .bfloat16])
    func shared(dtype: Precision) async throws {
        #expect(grid.count == 6)
        let whole = try await decode(try handler(), dtype: dtype, floats: true)
        var clip = TiledClip(grid, frames: 9, keepsFloats: true)
        // Two runs of tiles, each by a decoder of its own.
        for range in [0..<4, 4..<6] {
            let share = TileShare(first: range.lowerBound, count: range.count, clipBytes: 1 << 20)
            let result = try await decode(try handler(), dtype: dtype, share: share)
            #expect(result.outputs.map(\.name) == ["tiles"])
            let values = try #require(result.output("tiles"))
            #expect(values.dtype == dtype.dtype)
            let parts = try TiledClip.tiles(
                in: values, places: grid.tiles[range], scale: 8, frames: 9, name: "tiles")
            for part in parts { clip.add(part) }
        }
        #expect(identical(clip.frames, try #require(whole.output("frames"))))
        let floats = try #require(clip.floatFrames)
        #expect(identical(floats.reshaped([1] + floats.shape), try #require(whole.output("frames_float32"))))
        let exact = try await decode(try handler(), dtype: dtype, tiled: nil)
        #expect(!identical(clip.frames, try #require(exact.output("frames"))), "tiles are not exact")
        #expect(try #require(exact.output("frames")).shape == clip.frames.shape)
    }

    @Test("progress runs over all chunks of all tiles, and a task stops between them")
    func progress() async throws {
        let parameters = DecodeParameters(dtype: .float32, numFrames: 9, isTiled: true)
        let whole = try task(parameters, ["latents": latents])
        _ = try await handler().run(whole)
        #expect(whole.progress.step == 6 && whole.progress.total == 6)
        let stopped = try task(parameters, ["latents": latents], TaskProgress(stoppingAfter: 2))
        let failure = await #expect(throws: Failure.self) { try await handler().run(stopped) }
        #expect(failure?.code == "cancelled")
        #expect(stopped.progress.step == 2)
    }

    /// Less than the whole clip takes, enough for a tile.
    private var shortOfMemory: Int {
        get throws {
            let whole = DecoderMemory(folder.vae, height: 12, width: 8, elementBytes: 4)
            let tile = DecoderMemory(folder.vae, height: 6, width: 5, elementBytes: 4)
            let weights = try folder.weightBytes(.vae, dtype: .float32)
            try #require(tile.working < whole.working)
            return weights + (tile.working + whole.working) / 2
        }
    }

    @Test("what does not fit whole is refused with tiles as the remedy, and fits in tiles")
    func remedy() async throws {
        let limit = try shortOfMemory
        let failure = await #expect(throws: Failure.self) { try await decode(try handler(limit: limit), tiled: nil) }
        #expect(failure?.code == "memory_insufficient" && failure?.retry == .biggerWorker)
        let remedy = try #require(failure?.remedy)
        #expect(remedy.contains("vae_tiling") && remedy.contains("--tile-when-short"))
        let tiled = try await decode(try handler(limit: limit))
        #expect(tiled.notes.isEmpty)
        let expected = try await decode(try handler())
        #expect(identical(try #require(tiled.output("frames")), try #require(expected.output("frames"))))
    }

    @Test("a decoder that may falls back to tiles by itself and says so")
    func fallback() async throws {
        let limit = try shortOfMemory
        let found = try await decode(try handler(limit: limit, tilesWhenShort: true), tiled: nil)
        #expect(found.notes.count == 1 && found.notes[0].hasPrefix("Decoded in tiles, which is not exact"))
        #expect(found.manner == "tiles")
        let expected = try await decode(try handler())
        #expect(identical(try #require(found.output("frames")), try #require(expected.output("frames"))))
        #expect(expected.manner.isEmpty, "tiles that were asked for are no choice of the decoder's")
        let roomy = try await decode(try handler(tilesWhenShort: true), tiled: nil)
        #expect(roomy.notes.isEmpty, "with enough memory everything stays exact")
        let tiny = await #expect(throws: Failure.self) {
            try await decode(try handler(limit: 1 << 20, tilesWhenShort: true), tiled: nil)
        }
        #expect(tiny?.code == "memory_insufficient")
    }

    @Test("tiles of another clip are refused")
    func refusals() async throws {
        for (first, count) in [(5, 2), (-1, 1), (0, 0), (Int.max, 1), (1, Int.max)] {
            let share = TileShare(first: first, count: count, clipBytes: 1)
            let failure = await #expect(throws: Failure.self) { try await decode(try handler(), share: share) }
            #expect(failure?.code == "parameters_invalid", "\(first) \(count)")
        }
    }

    @Test(
        "more tiles than a decoder keeps in memory wait in a file, and have the same bits",
        arguments: [Precision.float32, .bfloat16])
    func spilled(dtype: Precision) async throws {
        let usual = TileShare(first: 1, count: 3, clipBytes: 1 << 20)
        let large = TileShare(first: 1, count: 3, clipBytes: 1 << 30)
        let limited = try handler(limit: 2 << 30)
        let kept = try #require(try await decode(limited, dtype: dtype, share: usual).output("tiles"))
        let spilled = try #require(try await decode(limited, dtype: dtype, share: large).output("tiles"))
        #expect(!kept.isInFile && spilled.isInFile)
        #expect(spilled.dtype == dtype.dtype && identical(spilled, kept))
    }

    @Test("a decoder that is too small for whole tiles still takes those at the border")
    func smallTiles() async throws {
        let weights = try folder.weightBytes(.vae, dtype: .float32)
        let memory = { (index: Int) in
            DecoderMemory(
                folder.vae, height: grid.tiles[index].rows.count, width: grid.tiles[index].columns.count,
                elementBytes: 4)
        }
        let whole = memory(0), last = memory(grid.count - 1)
        try #require(last.working < whole.working)
        let small = try handler(limit: weights + (last.working + whole.working) / 2)
        let border = TileShare(first: grid.count - 1, count: 1, clipBytes: 1)
        let expected = try #require(try await decode(try handler(), share: border).output("tiles"))
        #expect(identical(try #require(try await decode(small, share: border).output("tiles")), expected))
        let failure = await #expect(throws: Failure.self) {
            try await decode(small, share: TileShare(first: 0, count: 1, clipBytes: 1))
        }
        #expect(failure?.code == "memory_insufficient" && failure?.retry == .biggerWorker)
    }

    @Test("the encoder encodes in tiles where that is asked for, and needs less memory for it")
    func encoder() async throws {
        var pixels = Tensor(zeros: [9, 96, 64, 3], dtype: .uint8)
        pixels.withUnsafeMutableBytes { target in
            for index in target.indices { target[index] = UInt8(truncatingIfNeeded: index &* 7919 >> 3) }
        }
        func encode(limit: Int?, tiled: Bool?) async throws -> Tensor {
            let handler = try VAEEncoderHandler(folder: folder, backend: backend, budget: MemoryBudget(limit: limit))
            let parameters = ConditionParameters(
                dtype: .float32, isSampled: false, seed: 1, scale: 1, isTiled: tiled)
            return try #require(
                try await handler.run(task(parameters, ["pixels": pixels])).output("condition_latents"))
        }
        let tiled = try await encode(limit: nil, tiled: true)
        let encoder = try AutoencoderKLEncoder(folder: folder, backend: backend, dtype: .float32)
        let direct = try encoder.encodeTiled(frames: ModelSpace.normalized(pixels), grid).mode
        #expect(identical(tiled, direct.reshaped([1] + direct.shape)))
        #expect(!identical(tiled, try await encode(limit: nil, tiled: nil)))
        let weights = try folder.weightBytes(.vae, dtype: .float32)
        let whole = EncoderMemory(folder.vae, height: 96, width: 64, elementBytes: 4)
        let limit = weights + whole.working + whole.caches - 1
        let failure = await #expect(throws: Failure.self) { try await encode(limit: limit, tiled: nil) }
        #expect(failure?.code == "memory_insufficient" && failure?.remedy?.contains("vae_tiling") == true)
        #expect(identical(try await encode(limit: limit, tiled: true), tiled))
    }
}
