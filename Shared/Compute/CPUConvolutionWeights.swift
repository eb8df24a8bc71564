import CKernels
package import Tensor

/// Weights of a convolution on a CPU: one product whose row segments are the taps, or four (one for each place of an
/// output pixel in its enlarged source pixel).
final class CPUConvolutionWeights: ConvolutionWeights {
    /// What becomes of height and width.
    enum Resizing { case none, doubling, halving }

    let inputs: Int
    let outputs: Int
    let kernel: [Int]
    let dtype: DType
    let resizing: Resizing
    let phases: [ConvolutionPhase]
    /// What rows outside the image read.
    let zeros: Tensor

    /// For a checkpoint's weight `[outputs, inputs, kt, kh, kw]`.
    init(_ weight: Tensor, dtype: DType, resizing: Resizing = .none, phases: [ConvolutionPhase]) {
        inputs = weight.shape[1]
        outputs = weight.shape[0]
        kernel = Array(weight.shape[2...])
        self.dtype = dtype
        self.resizing = resizing
        self.phases = phases
        zeros = Tensor(zeros: [inputs + 4])
    }

    /// Pixels of the result in one pixel of a frame, along an axis.
    var enlargement: Int { resizing == .doubling ? 2 : 1 }
    /// Pixels of a frame from one pixel of the result to the next, along an axis.
    var step: Int { resizing == .halving ? 2 : 1 }
}

/// One product of a convolution and where its taps and results lie.
struct ConvolutionPhase: Sendable {
    let weights: PackedWeights
    /// Where the taps read, relative to the pixel.
    let taps: [Tap]
    /// Place of the result in the enlarged pixel.
    let row: Int
    let column: Int

    struct Tap: Sendable {
        var frame: Int
        var y: Int
        var x: Int
    }
}

extension CPUBackend {
    package func convolutionWeights(_ weight: Tensor, bias: Tensor?, dtype: DType) -> any ConvolutionWeights {
        precondition(
            weight.shape.count == 5 && (dtype == .float32 || dtype == .bfloat16),
            "convolution \(weight.shape) \(dtype)")
        precondition(weight.shape[3] % 2 == 1 && weight.shape[4] % 2 == 1, "odd kernels in space, not \(weight.shape)")
        let kernel = Array(weight.shape[2...])
        var taps: [ConvolutionPhase.Tap] = []
        for frame in 0..<kernel[0] {
            for y in 0..<kernel[1] {
                for x in 0..<kernel[2] { taps.append(.init(frame: frame, y: y - kernel[1] / 2, x: x - kernel[2] / 2)) }
            }
        }
        let phase = ConvolutionPhase(
            weights: packedTaps(weight, bias: bias, dtype: dtype), taps: taps, row: 0, column: 0)
        return CPUConvolutionWeights(weight, dtype: dtype, phases: [phase])
    }

    package func enlargingWeights(_ weight: Tensor, bias: Tensor?, dtype: DType) -> any ConvolutionWeights {
        precondition(
            weight.shape.count == 5 && Array(weight.shape[2...]) == [1, 3, 3],
            "only 3×3 convolutions are folded into an enlargement, not \(weight.shape)")
        let phases = [0, 1].flatMap { row in
            [0, 1].map { column in
                ConvolutionPhase(
                    weights: packedTaps(folded(weight, row: row, column: column), bias: bias, dtype: dtype),
                    taps: [0, 1].flatMap { y in [0, 1].map { .init(frame: 0, y: row - 1 + y, x: column - 1 + $0) } },
                    row: row, column: column)
            }
        }
        return CPUConvolutionWeights(weight, dtype: dtype, resizing: .doubling, phases: phases)
    }

    package func halvingWeights(_ weight: Tensor, bias: Tensor?, dtype: DType) -> any ConvolutionWeights {
        precondition(
            weight.shape.count == 5 && Array(weight.shape[2...]) == [1, 3, 3],
            "only 3×3 convolutions halve a frame, not \(weight.shape)")
        let phase = ConvolutionPhase(
            weights: packedTaps(weight, bias: bias, dtype: dtype),
            taps: (0..<3).flatMap { y in (0..<3).map { .init(frame: 0, y: y, x: $0) } }, row: 0, column: 0)
        return CPUConvolutionWeights(weight, dtype: dtype, resizing: .halving, phases: [phase])
    }

    private func packedTaps(_ weight: Tensor, bias: Tensor?, dtype: DType) -> PackedWeights {
        let taps = weight.shape[2...].reduce(1, *), inputs = weight.shape[1]
        let layout = PackedWeights.Layout(
            outputs: weight.shape[0], segments: taps, depth: inputs, outputStride: inputs * taps, segmentStride: 1,
            channelStride: taps)
        return PackedWeights(
            weight, layout, bias: bias, type: dtype == .float32 ? CK_F32 : CK_BF16, kernels: kernels, pool: pool)
    }

    /// `[outputs, inputs, 1, 2, 2]` for results at (row, column) of an enlarged pixel: of the three taps of an axis, the
    /// two that fall on the same source pixel are added. In the first half of a pixel these are the last two.
    private func folded(_ weight: Tensor, row: Int, column: Int) -> Tensor {
        let source = weight.converted(to: .float32).floats(), count = weight.shape[0] * weight.shape[1]
        var result = [Float](repeating: 0, count: count * 4)
        for index in 0..<count {
            for y in 0..<3 {
                for x in 0..<3 {
                    let half = (row == 0 ? min(y, 1) : y / 2) * 2 + (column == 0 ? min(x, 1) : x / 2)
                    result[index * 4 + half] += source[index * 9 + y * 3 + x]
                }
            }
        }
        return Tensor(result, shape: [weight.shape[0], weight.shape[1], 1, 2, 2])
    }
}
