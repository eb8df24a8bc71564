/// The overlapping tiles of `AutoencoderKLCogVideoX.enable_tiling()` with its defaults: half the native size, neighbours
/// sharing a sixth of the height and a fifth of the width.
///
/// diffusers takes any native size, and makes clips of a wrong size of most: its strides, blends and crops fit together
/// for tiles that are multiples of 6 latents high and 5 wide. Those of the released models are (30×45); here other sizes
/// are rounded down to such.
package struct AutoencoderTiling: Sendable, Hashable, Codable {
    /// One side of the tiles, in latents.
    package struct Side: Sendable, Hashable, Codable {
        package var length: Int
        /// What neighbours share: over so much they are blended.
        package var overlap: Int
        /// From one tile to the next, which is also what is kept of a tile.
        package var stride: Int { length - overlap }

        /// - Parameters:
        ///   - parts: one of so many is shared.
        fileprivate init(pixels: Int, pixelsPerLatent: Int, parts: Int) {
            length = max(1, pixels / 2 / pixelsPerLatent / parts) * parts
            overlap = length / parts
        }
    }

    package let height: Side
    package let width: Side
    /// In both directions.
    package let pixelsPerLatent: Int

    /// The tiles of an autoencoder.
    package init(_ config: AutoencoderKLConfig) {
        let ratio = config.spatialCompressionRatio
        pixelsPerLatent = ratio
        height = Side(pixels: config.sampleHeight, pixelsPerLatent: ratio, parts: 6)
        width = Side(pixels: config.sampleWidth, pixelsPerLatent: ratio, parts: 5)
    }

    /// The tiles of a clip of `height` × `width` latents; nil when one tile holds it, for which nothing is cut.
    package func grid(height: Int, width: Int) -> TileGrid? {
        guard height > self.height.length || width > self.width.length else { return nil }
        return TileGrid(tiling: self, height: height, width: width)
    }
}

/// The tiles of one clip, numbered row by row.
package struct TileGrid: Sendable, Hashable, Codable {
    /// One tile: its place in the grid, and the latents it covers.
    package struct Tile: Sendable, Hashable {
        package let row: Int
        package let column: Int
        package let rows: Range<Int>
        package let columns: Range<Int>
        /// Latents of one frame.
        package var area: Int { rows.count * columns.count }
    }

    package let tiling: AutoencoderTiling
    /// Of the clip, in latents.
    package let height: Int
    package let width: Int

    fileprivate init(tiling: AutoencoderTiling, height: Int, width: Int) {
        self.tiling = tiling
        self.height = height
        self.width = width
    }

    /// Whether the numbers can be those of a clip: a grid that came over the wire may hold any.
    package var isSound: Bool {
        let sides = [tiling.height, tiling.width].allSatisfy {
            (1...1 << 14).contains($0.length) && (0..<$0.length).contains($0.overlap)
        }
        return sides && (1...64).contains(tiling.pixelsPerLatent)
            && [height, width].allSatisfy { (1...1 << 14).contains($0) }
    }

    /// Latent rows of the tiles, which begin at every multiple of the stride, however little is left there.
    package var rows: [Range<Int>] { Self.cut(height, tiling.height) }
    package var columns: [Range<Int>] { Self.cut(width, tiling.width) }
    package var count: Int { rows.count * columns.count }

    /// All tiles, row by row.
    package var tiles: [Tile] {
        rows.enumerated().flatMap { row, rows in
            columns.enumerated().map { Tile(row: row, column: $0, rows: rows, columns: $1) }
        }
    }

    /// Pixels of one frame that all tiles decode together: more than the clip has.
    package var pixels: Int { tiles.reduce(0) { $0 + $1.area } * tiling.pixelsPerLatent * tiling.pixelsPerLatent }

    private static func cut(_ extent: Int, _ side: AutoencoderTiling.Side) -> [Range<Int>] {
        stride(from: 0, to: extent, by: side.stride).map { $0..<min($0 + side.length, extent) }
    }
}
