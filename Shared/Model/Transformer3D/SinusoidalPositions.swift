import Checkpoint
import Tensor

#if canImport(Glibc)
import Glibc
#elseif canImport(Musl)
import Musl
#endif

/// The sinusoids that CogVideoX-2b adds to its video tokens (`get_3d_sincos_pos_embed`).
enum SinusoidalPositions {
    /// `[tokens, width]` float32: a quarter for time, three eighths each for x and y; sines, then cosines.
    static func table(config: Transformer3DConfig, geometry: LatentGeometry) -> Tensor {
        let width = config.innerDim
        let space = Float(config.spatialInterpolationScale)
        let time = Float(config.temporalInterpolationScale)
        let t = (0..<geometry.gridFrames).map { sinusoid(Float($0) / time, width: width / 4) }
        let x = (0..<geometry.gridWidth).map { sinusoid(Float($0) / space, width: width / 8 * 3) }
        let y = (0..<geometry.gridHeight).map { sinusoid(Float($0) / space, width: width / 8 * 3) }
        var values = [Float]()
        values.reserveCapacity(geometry.tokenCount * width)
        for frame in t {
            for row in y {
                for column in x {
                    values += frame
                    values += column
                    values += row
                }
            }
        }
        return Tensor(values, shape: [geometry.tokenCount, width])
    }

    /// Evaluated in double precision at a single-precision position, as the reference does.
    private static func sinusoid(_ position: Float, width: Int) -> [Float] {
        let half = width / 2
        let angles = (0..<half).map { Double(position) / pow(10_000, Double($0) / Double(half)) }
        return angles.map { Float(sin($0)) } + angles.map { Float(cos($0)) }
    }
}
