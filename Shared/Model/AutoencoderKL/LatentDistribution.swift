import Glibc
package import Tensor

/// A normal distribution of latents (`DiagonalGaussianDistribution`), not yet scaled for the diffusion process.
package struct LatentDistribution: Sendable {
    /// `[F, 2 · channels, h, w]` float32: means, then logarithms of variances.
    package let moments: Tensor

    package init(moments: Tensor) { self.moments = moments }

    /// `[F, channels, h, w]`
    package var shape: [Int] { [moments.shape[0], moments.shape[1] / 2, moments.shape[2], moments.shape[3]] }

    /// The shape in which the reference draws its noise: `[channels, F, h, w]`.
    package var noiseShape: [Int] { [shape[1], shape[0], shape[2], shape[3]] }

    /// The most probable latents, `[F, channels, h, w]` float32.
    package var mode: Tensor { latents { mean, _, _ in mean } }

    /// `mean + std · noise`, `[F, channels, h, w]` float32.
    ///
    /// - Parameter noise: standard normals of `noiseShape`, float32.
    package func sample(noise: Tensor) -> Tensor {
        precondition(noise.shape == noiseShape && noise.dtype == .float32, "noise \(noise.dtype) \(noise.shape)")
        return noise.withUnsafeBytes { bytes in
            let normals = bytes.bindMemory(to: Float.self)
            return latents { mean, logVariance, index in
                mean + exp(0.5 * min(max(logVariance, -30), 20)) * normals[index]
            }
        }
    }

    /// Latents of what `value` makes of a mean, a log variance and the element's index in `noiseShape`.
    private func latents(_ value: (Float, Float, Int) -> Float) -> Tensor {
        let frames = shape[0], channels = shape[1], pixels = shape[2] * shape[3]
        var result = Tensor(uninitialized: shape, dtype: .float32)
        moments.withUnsafeBytes { source in
            let moments = source.bindMemory(to: Float.self)
            result.withUnsafeMutableBytes { target in
                let values = target.bindMemory(to: Float.self)
                for frame in 0..<frames {
                    for channel in 0..<channels {
                        let mean = (frame * 2 * channels + channel) * pixels, variance = mean + channels * pixels
                        let place = (frame * channels + channel) * pixels
                        let drawn = (channel * frames + frame) * pixels
                        for pixel in 0..<pixels {
                            values[place + pixel] = value(
                                moments[mean + pixel], moments[variance + pixel], drawn + pixel)
                        }
                    }
                }
            }
        }
        return result
    }
}
