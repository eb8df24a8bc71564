import Checkpoint
import Tensor

#if canImport(Glibc)
import Glibc
#elseif canImport(Musl)
import Musl
#endif

/// Cosines and sines of the three-dimensional rotary embedding, `[tokens, headSize]` float32
/// (`get_3d_rotary_pos_embed`). The head splits 2:3:3 into time, y and x; each angle stands twice, for a pair.
struct RotaryTables: Sendable {
    let cosines: Tensor
    let sines: Tensor

    /// The tables that the diffusers pipelines would make for this geometry.
    ///
    /// CogVideoX 1.0 squeezes other grids into the native one. CogVideoX 1.5 counts whole positions; the pipeline cuts
    /// them from a table of the native size, which gives the same numbers and fails for larger grids.
    init(config: Transformer3DConfig, geometry: LatentGeometry) {
        let times = (0..<geometry.gridFrames).map { Float($0) }
        if config.patchSizeT == nil {
            let region = CropRegion(
                gridHeight: geometry.gridHeight, gridWidth: geometry.gridWidth,
                baseHeight: config.sampleHeight / config.patchSize, baseWidth: config.sampleWidth / config.patchSize)
            self.init(
                headSize: config.attentionHeadDim, times: times,
                rows: Self.positions(region.top, region.bottom, count: geometry.gridHeight),
                columns: Self.positions(region.left, region.right, count: geometry.gridWidth))
        } else {
            self.init(
                headSize: config.attentionHeadDim, times: times,
                rows: (0..<geometry.gridHeight).map { Float($0) },
                columns: (0..<geometry.gridWidth).map { Float($0) })
        }
    }

    init(headSize: Int, times: [Float], rows: [Float], columns: [Float]) {
        let timeSize = headSize / 4
        let spaceSize = headSize / 8 * 3
        let t = Self.angles(times, size: timeSize)
        let y = Self.angles(rows, size: spaceSize)
        let x = Self.angles(columns, size: spaceSize)
        let count = times.count * rows.count * columns.count
        var cosines = [Float]()
        var sines = [Float]()
        cosines.reserveCapacity(count * headSize)
        sines.reserveCapacity(count * headSize)
        for time in t {
            for row in y {
                for column in x {
                    cosines += time.cosines
                    cosines += row.cosines
                    cosines += column.cosines
                    sines += time.sines
                    sines += row.sines
                    sines += column.sines
                }
            }
        }
        self.cosines = Tensor(cosines, shape: [count, headSize])
        self.sines = Tensor(sines, shape: [count, headSize])
    }

    private struct Angles {
        var cosines: [Float] = []
        var sines: [Float] = []
    }

    /// Frequencies `10000^(−2i/size)` in float32, as torch computes them.
    private static func angles(_ positions: [Float], size: Int) -> [Angles] {
        let frequencies = (0..<(size / 2)).map { 1 / pow(Float(10_000), Float(2 * $0) / Float(size)) }
        return positions.map { position in
            var result = Angles()
            for frequency in frequencies {
                let angle = position * frequency
                result.cosines += [cos(angle), cos(angle)]
                result.sines += [sin(angle), sin(angle)]
            }
            return result
        }
    }

    /// `torch.linspace(start, stop·(count−1)/count, count)`: torch counts its second half back from the end.
    private static func positions(_ start: Int, _ stop: Int, count: Int) -> [Float] {
        let first = Float(start)
        let last = Float(Double(stop) * Double(count - 1) / Double(count))
        guard count > 1 else { return [first] }
        let step = (last - first) / Float(count - 1)
        return (0..<count).map { index in
            index < count / 2 ? first + step * Float(index) : last - step * Float(count - 1 - index)
        }
    }
}

/// Where a grid of another shape lies in the native grid: scaled to fit and centred
/// (`get_resize_crop_region_for_grid`). Rounds half to even, as Python does.
struct CropRegion: Equatable {
    let top: Int
    let left: Int
    let bottom: Int
    let right: Int

    init(gridHeight: Int, gridWidth: Int, baseHeight: Int, baseWidth: Int) {
        let ratio = Double(gridHeight) / Double(gridWidth)
        var height = baseHeight
        var width = baseWidth
        if ratio > Double(baseHeight) / Double(baseWidth) {
            width = Self.rounded(Double(baseHeight) / Double(gridHeight) * Double(gridWidth))
        } else {
            height = Self.rounded(Double(baseWidth) / Double(gridWidth) * Double(gridHeight))
        }
        top = Self.rounded(Double(baseHeight - height) / 2)
        left = Self.rounded(Double(baseWidth - width) / 2)
        bottom = top + height
        right = left + width
    }

    private static func rounded(_ value: Double) -> Int { Int(value.rounded(.toNearestOrEven)) }
}
