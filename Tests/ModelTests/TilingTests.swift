import Checkpoint
import Compute
import Failure
import Foundation
import Model
import Tensor
import TestSupport
import Testing

@Suite("The autoencoder in tiles")
struct TilingTests {
    /// The golden autoencoder as if its native size were that of the fixture.
    private static func tiling(_ folder: ModelFolder) -> AutoencoderTiling {
        var config = folder.vae
        (config.sampleHeight, config.sampleWidth) = (96, 80)
        return AutoencoderTiling(config)
    }

    private func grid(_ latents: Tensor, _ golden: Golden) throws -> TileGrid {
        try #require(Self.tiling(golden.folder).grid(height: latents.shape[2], width: latents.shape[3]))
    }

    private func clip(
        _ latents: Tensor, _ decoder: AutoencoderKLDecoder, _ grid: TileGrid, order: [Int]? = nil
    ) throws -> TiledClip {
        var tiles: [Int: Tensor] = [:]
        for index in order ?? Array(0..<grid.count) {
            tiles[index] = try decoder.decodeTile(grid.tiles[index], of: latents)
        }
        var clip = TiledClip(
            grid, frames: decoder.frameCount(latentFrames: latents.shape[0]), keepsFloats: true)
        for index in 0..<grid.count { clip.add(try #require(tiles[index])) }
        return clip
    }

    @Test("released sizes have diffusers' tiles: 30×45 latents at every 25 and 36, 3×3 of 480×720 and 4×5 of 768×1360")
    func released() throws {
        let config = try Golden("2b").folder.vae
        var native = config
        (native.sampleHeight, native.sampleWidth) = (480, 720)
        let tiling = AutoencoderTiling(native)
        #expect(tiling.height.length == 30 && tiling.height.stride == 25)
        #expect(tiling.width.length == 45 && tiling.width.stride == 36)
        let grid = try #require(tiling.grid(height: 60, width: 90))
        #expect(grid.rows == [0..<30, 25..<55, 50..<60])
        #expect(grid.columns == [0..<45, 36..<81, 72..<90])
        #expect(grid.pixels == 70 * 108 * 64)
        #expect(grid.tiles.map(\.row) == [0, 0, 0, 1, 1, 1, 2, 2, 2])
        #expect(tiling.grid(height: 96, width: 170)?.count == 20)
        #expect(tiling.grid(height: 30, width: 45) == nil, "one tile holds it")
        #expect(tiling.grid(height: 31, width: 8)?.count == 2)
    }

    @Test(
        "native sizes that diffusers' own arithmetic does not fit are rounded down to ones that it does",
        arguments: [(96, 96, 6, 5), (48, 64, 6, 5), (100, 170, 6, 10), (16, 16, 6, 5), (2400, 2400, 150, 150)])
    func rounded(height: Int, width: Int, rows: Int, columns: Int) throws {
        var config = try Golden("2b").folder.vae
        (config.sampleHeight, config.sampleWidth) = (height, width)
        let tiling = AutoencoderTiling(config)
        #expect(tiling.height.length == rows && tiling.width.length == columns)
        // What diffusers computes of a tile's pixels must be its kept latents in pixels.
        #expect(8 * rows - Int(Double(8 * rows) * (1.0 / 6)) == 8 * Int(Double(rows) * (1 - 1.0 / 6)))
        #expect(8 * columns - Int(Double(8 * columns) * (1.0 / 5)) == 8 * Int(Double(columns) * (1 - 1.0 / 5)))
        #expect(tiling.height.stride == Int(Double(rows) * (1 - 1.0 / 6)))
        #expect(tiling.width.stride == Int(Double(columns) * (1 - 1.0 / 5)))
    }

    @Test("decoding equals diffusers' enable_tiling in float32", arguments: ["wide", "long"])
    func decode(key: String) throws {
        let golden = try Golden("2b", file: "tiled"), latents = try golden("decode.\(key).latents")
        let decoder = try AutoencoderKLDecoder(folder: golden.folder, backend: testBackend(), dtype: .float32)
        let reference = try golden("decode.\(key).frames"), grid = try grid(latents, golden)
        let clip = try clip(latents, decoder, grid)
        let floats = try #require(clip.floatFrames)
        #expect(floats.shape == reference.shape)
        #expect(maxAbsoluteDifference(floats, reference) <= 1e-4)
        #expect(clip.frames.floats() == floats.floats().map { ($0 * 255).rounded(.toNearestOrEven) })
        var whole: [Tensor] = []
        try decoder.decode(latents: latents) { chunk throws(Failure) in whole.append(chunk) }
        #expect(maxAbsoluteDifference(floats, Tensor.concatenated(whole)) > 0.01, "tiles are seen")
    }

    @Test(
        "encoding equals diffusers' enable_tiling in float32, and progress counts all chunks",
        arguments: [
            ("wide", 12, 1), ("long", 4, 2),
        ])
    func encode(key: String, tiles: Int, chunks: Int) throws {
        let golden = try Golden("2b", file: "tiled"), frames = try golden("encode.\(key).frames")
        let encoder = try AutoencoderKLEncoder(folder: golden.folder, backend: testBackend(), dtype: .float32)
        let reference = try golden("encode.\(key).moments"), grid = try grid(reference, golden)
        #expect(grid.count == tiles)
        var told: [[Int]] = []
        let found = try encoder.encodeTiled(frames: frames, grid) { (done, all) throws(Failure) in
            told.append([done, all])
        }
        #expect(found.moments.shape == reference.shape)
        #expect(maxAbsoluteDifference(found.moments, reference) <= 1e-4)
        #expect(told == (1...tiles * chunks).map { [$0, tiles * chunks] })
    }

    @Test(
        "in whatever order and by however many threads tiles are made, the bits are the same",
        arguments: [
            DType.float32, .bfloat16,
        ])
    func order(dtype: DType) throws {
        let golden = try Golden("2b", file: "tiled"), latents = try golden("decode.wide.latents")
        let grid = try grid(latents, golden)
        let one = try AutoencoderKLDecoder(folder: golden.folder, backend: CPUBackend(threads: 1), dtype: dtype)
        let two = try AutoencoderKLDecoder(folder: golden.folder, backend: testBackend(), dtype: dtype)
        let forward = try clip(latents, one, grid)
        let backward = try clip(latents, two, grid, order: (0..<grid.count).reversed())
        #expect(identical(try #require(forward.floatFrames), try #require(backward.floatFrames)))
        #expect(identical(forward.frames, backward.frames))
    }

    @Test("a tile in bfloat16 travels without losing anything")
    func lossless() throws {
        let golden = try Golden("2b", file: "tiled"), latents = try golden("decode.long.latents")
        let decoder = try AutoencoderKLDecoder(folder: golden.folder, backend: testBackend(), dtype: .bfloat16)
        let tile = try #require(try grid(latents, golden).tiles.first)
        let part = try decoder.decodeTile(tile, of: latents)
        #expect(part.dtype == .bfloat16)
        // As a clip of its own, which goes another way to [0, 1].
        let rows = latents.shape[0] * latents.shape[1]
        var values: [Float] = []
        for plane in latents.reshaped([rows, latents.shape[2], latents.shape[3]]).slices {
            for row in plane.rows(tile.rows).slices { values += row.floats()[tile.columns] }
        }
        var shape = latents.shape
        (shape[2], shape[3]) = (tile.rows.count, tile.columns.count)
        var chunks: [Tensor] = []
        try decoder.decode(latents: Tensor(values, shape: shape)) { chunk throws(Failure) in chunks.append(chunk) }
        let scaled = part.floats().map { min(max($0 * 0.5 + 0.5, 0), 1) }
        #expect(scaled == Tensor.concatenated(chunks).floats())
    }

    @Test("blending runs from the neighbour to the tile, the row above first, with neighbours already blended")
    func blending() throws {
        var config = try Golden("2b").folder.vae
        (config.sampleHeight, config.sampleWidth) = (96, 80)
        let grid = try #require(AutoencoderTiling(config).grid(height: 11, width: 9))
        #expect(grid.rows == [0..<6, 5..<11, 10..<11] && grid.columns == [0..<5, 4..<9, 8..<9])
        var blender = TileBlender(grid, scale: 2)
        var clip = [Float](repeating: -1, count: 22 * 18)
        for (number, tile) in grid.tiles.enumerated() {
            let size = try #require(blender.nextSize)
            #expect(size == (tile.rows.count * 2, tile.columns.count * 2))
            let flat = Array(repeating: Float(number), count: size.rows * size.columns)
            let part = blender.add(Tensor(flat, shape: [1, size.rows, size.columns, 1]))
            let values = part.values.floats()
            for row in 0..<part.values.shape[1] {
                for column in 0..<part.values.shape[2] {
                    clip[(part.row + row) * 18 + part.column + column] = values[row * part.values.shape[2] + column]
                }
            }
        }
        #expect(blender.count == 9 && blender.nextSize == nil)
        #expect(!clip.contains(-1), "nothing is left out")
        // Two pixels of overlap: the first is the neighbour's, the second half of each.
        #expect(Array(clip[0..<18]) == [0, 0, 0, 0, 0, 0, 0, 0, 0, 0.5, 1, 1, 1, 1, 1, 1, 1, 1.5])
        let firstColumn = (0..<22).map { clip[$0 * 18] }
        #expect(firstColumn == Array(repeating: 0, count: 11) + [1.5] + Array(repeating: 3, count: 9) + [4.5])
        // Tile 4 (value 4): above it tile 1, whose lower left corner is blended with tile 0.
        let corner = clip[11 * 18 + 9]
        let above: Float = 0.5 * 0.5 + 4 * 0.5, left: Float = 0 * 0.5 + 3 * 0.5
        #expect(corner == left * 0.5 + above * 0.5)
    }

    @Test("tiles that came as one tensor are cut apart, and a tensor of another length is refused")
    func cutting() throws {
        let golden = try Golden("2b", file: "tiled"), latents = try golden("decode.long.latents")
        let tiles = try grid(latents, golden).tiles
        let counts = tiles[1...2].map { 17 * $0.area * 64 * 3 }
        let all = Tensor((0..<counts.reduce(0, +)).map { Float($0) }, shape: [counts.reduce(0, +)])
        let parts = try TiledClip.tiles(in: all, places: tiles[1...2], scale: 8, frames: 17, name: "tiles.1")
        #expect(parts.map(\.shape) == tiles[1...2].map { [17, $0.rows.count * 8, $0.columns.count * 8, 3] })
        #expect(parts.flatMap { $0.floats() } == all.floats())
        let failure = try #require(throws: Failure.self) {
            try TiledClip.tiles(in: all, places: tiles[1...1], scale: 8, frames: 17, name: "tiles.1")
        }
        #expect(failure.code == "tensor_misshapen" && failure.field == "tiles.1")
    }

    @Test("a grid that came over the wire is looked at before it is cut")
    func unsound() throws {
        let golden = try Golden("2b"), sound = try #require(Self.tiling(golden.folder).grid(height: 11, width: 13))
        #expect(sound.isSound)
        let text = String(decoding: try JSONEncoder().encode(sound), as: UTF8.self)
        #expect(try JSONDecoder().decode(TileGrid.self, from: Data(text.utf8)) == sound)
        for (from, to) in [
            ("\"overlap\":1", "\"overlap\":6"), ("\"height\":11", "\"height\":0"),
            ("\"pixelsPerLatent\":8", "\"pixelsPerLatent\":-8"), ("\"length\":6", "\"length\":0"),
        ] {
            #expect(text.contains(from))
            let changed = Data(text.replacing(from, with: to).utf8)
            #expect(try !JSONDecoder().decode(TileGrid.self, from: changed).isSound, "\(from)")
        }
    }
}
