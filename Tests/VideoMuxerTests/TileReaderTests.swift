import Checkpoint
import DemoModel
import Diffusion
import Failure
import FoundationEssentials
import Media
import Model
import Request
import Stage
import Tensor
import TestSupport
import Testing
import VideoMuxerService

@Suite("A clip that comes in tiles", .serialized, .timeLimit(.minutes(1)))
struct TileReaderTests {
    private let grid: TileGrid

    init() throws {
        let config = try ModelFolder(path: DemoModel.path()).vae
        grid = try #require(AutoencoderTiling(config).grid(height: 10, width: 8))
    }

    /// Pixels of one tile, about −1 … 1.
    private func tile(_ index: Int) -> Tensor {
        let place = grid.tiles[index]
        let shape = [9, place.rows.count * 8, place.columns.count * 8, 3]
        return randomTensor(shape, seed: UInt64(index + 1))
    }

    private func task(_ sources: TileSources, _ inputs: [String: Tensor]) throws -> StageTask {
        let request = GenerationRequest(
            prompt: "hills", width: 64, height: 80, numFrames: 9, framesPerSecond: 8, numInferenceSteps: 25,
            guidanceScale: 6, scheduler: .ddim, seed: 42, container: .mkv, vaeTiling: true)
        let parameters = MuxParameters(request: request, modelDigest: "abc", tiles: sources)
        return StageTask(
            name: "job/mux", attempt: 1, parameters: try CanonicalJSON.encode(parameters),
            port: LocalPort(inputs: inputs))
    }

    private func flat(_ indices: Range<Int>, dtype: DType = .float32) -> Tensor {
        Tensor.concatenated(
            indices.map { index in
                let tile = tile(index).converted(to: dtype)
                return tile.reshaped([tile.count])
            })
    }

    @Test("is joined, and every byte of it is in the lossless file", arguments: [DType.float32, .bfloat16])
    func joined(dtype: DType) async throws {
        #expect(grid.count == 4)
        let sources = TileSources(grid: grid, counts: [1, 2, 1])
        let inputs = [
            "tiles.0": flat(0..<1, dtype: dtype), "tiles.1": flat(1..<3, dtype: dtype),
            "tiles.2": flat(3..<4, dtype: dtype),
        ]
        var clip = TiledClip(grid, frames: 9)
        for index in 0..<4 { clip.add(tile(index).converted(to: dtype)) }
        let task = try task(sources, inputs)
        let result = try await VideoMuxerHandler(threads: 1).run(task)
        #expect(task.progress.step == 13 && task.progress.total == 13, "three inputs, nine frames, the pictures")
        let path = FileManager.default.temporaryDirectory.appending(path: "\(UUID().uuidString).mkv").path()
        defer { try? FileManager.default.removeItem(atPath: path) }
        try #require(result.output("video")).withUnsafeBytes { try Data($0).write(to: URL(filePath: path)) }
        #expect(identical(try VideoReader(path: path).frames(), clip.frames))
        #expect(result.output("contact_sheet") != nil && result.output("thumbnail") != nil)
    }

    @Test("a tile that is missing is the decoder's matter, one of another size or with NaN nobody's retry")
    func wrong() async throws {
        let sources = TileSources(grid: grid, counts: [2, 2])
        var broken = tile(2).floats() + tile(3).floats()
        broken[17] = .nan
        for (second, code) in [
            (nil, "input_absent"), (flat(2..<3), "tensor_misshapen"),
            (Tensor(broken, shape: [broken.count]), "tensor_not_finite"),
            (Tensor(zeros: [broken.count], dtype: .uint8), "tensor_dtype_wrong"),
        ] as [(Tensor?, String)] {
            var inputs = ["tiles.0": flat(0..<2)]
            inputs["tiles.1"] = second
            let task = try task(sources, inputs)
            let failure = await #expect(throws: Failure.self) { try await VideoMuxerHandler(threads: 1).run(task) }
            #expect(failure?.code == code)
        }
    }

    @Test("a grid that does not fit its tiles is refused before anything is read")
    func unsound() async throws {
        for counts in [[1, 2], [2, 3], [0, 4], [-1, 5], []] {
            let task = try task(TileSources(grid: grid, counts: counts), [:])
            let failure = await #expect(throws: Failure.self) { try await VideoMuxerHandler(threads: 1).run(task) }
            #expect(failure?.code == "parameters_invalid", "\(counts)")
        }
    }
}
