import Checkpoint
import Compute
import Failure
import Tensor

/// Doubles height and width, and in the deeper levels the frame count, then convolves each frame
/// (`CogVideoXUpsample3D`).
struct DecoderUpsampler: Sendable {
    private let weights: any ConvolutionWeights
    private let doublesTime: Bool

    init(_ loader: LayerLoader, _ plan: DecoderPlan.Upsampler) throws(Failure) {
        weights = try loader.convolution(plan.name)
        doublesTime = plan.doublesTime
    }

    /// `[T, H, W, C]` → `[T', 2H, 2W, C]`
    func callAsFunction(_ x: Tensor, backend: any Backend) -> Tensor {
        let frames = doublesTime ? Self.doubled(x.shape[0]) : Array(0..<x.shape[0])
        return backend.convolution(backend.upsampled(x, frames: frames), weights, residual: nil)
    }

    /// Every frame twice, except that the first of an odd count stays single: it came from a single pixel frame.
    static func doubled(_ count: Int) -> [Int] {
        count % 2 == 1 ? [0] + (1..<count).flatMap { [$0, $0] } : (0..<count).flatMap { [$0, $0] }
    }
}
