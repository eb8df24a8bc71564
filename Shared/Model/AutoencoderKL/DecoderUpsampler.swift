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
        weights = try loader.enlargingConvolution(plan.name)
        doublesTime = plan.doublesTime
    }

    /// T frames `[H, W, C]` → T' frames `[2H, 2W, C]`; those that repeat share their memory.
    func callAsFunction(_ frames: [Tensor], slab: Slab, backend: any Backend) throws(Failure) -> [Tensor] {
        var larger = backend.enlargedConvolution(frames, weights, margins: slab.margins)
        try slab.complete(&larger)
        return doublesTime ? Self.doubled(frames.count).map { larger[$0] } : larger
    }

    /// Every frame twice, except that the first of an odd count stays single: it came from a single pixel frame.
    static func doubled(_ count: Int) -> [Int] {
        count % 2 == 1 ? [0] + (1..<count).flatMap { [$0, $0] } : (0..<count).flatMap { [$0, $0] }
    }
}
