import Checkpoint
import Compute
import Failure
import Tensor

/// Halves height and width by a convolution of each frame, and in the first levels the frame count by averaging pairs
/// (`CogVideoXDownsample3D`).
struct EncoderDownsampler: Sendable {
    private let weights: any ConvolutionWeights
    private let halvesTime: Bool

    init(_ loader: LayerLoader, _ plan: EncoderPlan.Downsampler) throws(Failure) {
        weights = try loader.halvingConvolution(plan.name)
        halvesTime = plan.halvesTime
    }

    /// T frames `[H, W, C]` → T' frames `[H / 2, W / 2, C]`.
    func callAsFunction(_ frames: [Tensor], backend: any Backend) -> [Tensor] {
        guard halvesTime else { return backend.halvedConvolution(frames, weights) }
        let means = Self.halved(frames.count).map { pair in
            pair.count == 1
                ? frames[pair.lowerBound] : backend.mean(frames[pair.lowerBound], frames[pair.lowerBound + 1])
        }
        return backend.halvedConvolution(means, weights)
    }

    /// The frames that each frame of the result is the mean of: pairs, but the first of an odd count by itself.
    static func halved(_ count: Int) -> [Range<Int>] {
        let odd = count % 2
        return (odd == 1 ? [0..<1] : []) + stride(from: odd, to: count, by: 2).map { $0..<$0 + 2 }
    }
}
