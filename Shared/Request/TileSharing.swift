package import Checkpoint

/// The tiles that one `decode` task makes, and what all of them come to.
package struct TileShare: Sendable, Hashable, Codable {
    /// Number of the first tile, counted row by row.
    package var first: Int
    package var count: Int
    /// Bytes of all tiles of the clip: what a decoder that makes them all keeps until the muxer has read them.
    package var clipBytes: Int

    package init(first: Int, count: Int, clipBytes: Int) {
        self.first = first
        self.count = count
        self.clipBytes = clipBytes
    }
}

/// How the muxer's inputs become a clip.
package struct TileSources: Sendable, Hashable, Codable {
    package var grid: TileGrid
    /// Of each input in turn, how many tiles it holds; one behind the other, row by row.
    package var counts: [Int]

    package init(grid: TileGrid, counts: [Int]) {
        self.grid = grid
        self.counts = counts
    }

    /// Name of an input of the muxer.
    package static func inputName(_ index: Int) -> String { "tiles.\(index)" }
}
