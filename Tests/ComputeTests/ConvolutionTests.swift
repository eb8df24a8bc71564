import Compute
import Tensor
import TestSupport
import Testing

@Suite("Convolution")
struct ConvolutionTests {
    struct Shape: Sendable {
        var frames: Int, height: Int, width: Int, inputs: Int, outputs: Int, kernel: [Int]
    }
    static let shapes: [Shape] = [
        Shape(frames: 1, height: 1, width: 1, inputs: 1, outputs: 1, kernel: [3, 3, 3]),
        Shape(frames: 1, height: 2, width: 2, inputs: 3, outputs: 8, kernel: [3, 3, 3]),
        Shape(frames: 2, height: 3, width: 5, inputs: 13, outputs: 3, kernel: [3, 3, 3]),
        Shape(frames: 1, height: 19, width: 70, inputs: 8, outputs: 16, kernel: [3, 3, 3]),
        Shape(frames: 3, height: 17, width: 4, inputs: 16, outputs: 20, kernel: [1, 3, 3]),
        Shape(frames: 2, height: 130, width: 3, inputs: 4, outputs: 5, kernel: [1, 3, 3]),
        Shape(frames: 2, height: 4, width: 3, inputs: 24, outputs: 13, kernel: [1, 1, 1]),
        Shape(frames: 2, height: 5, width: 6, inputs: 3, outputs: 4, kernel: [2, 1, 5]),
    ]

    @Test(
        "channels-last convolution pads space with zeros and consumes kt − 1 frames",
        arguments: InstructionSet.allCases, Backends.dtypes)
    func shapes(set: InstructionSet, dtype: DType) throws {
        let backend = try Backends.backend(set)
        for (index, shape) in Self.shapes.enumerated() {
            let x = randomTensor(
                [shape.frames + shape.kernel[0] - 1, shape.height, shape.width, shape.inputs], seed: 1, dtype: dtype)
            let weight = randomTensor([shape.outputs, shape.inputs] + shape.kernel, seed: 2, dtype: dtype)
            let bias = index == 3 ? nil : randomTensor([shape.outputs], seed: 3)
            let weights = backend.convolutionWeights(weight, bias: bias, dtype: dtype)
            #expect(
                weights.inputs == shape.inputs && weights.outputs == shape.outputs && weights.kernel == shape.kernel)
            let added = randomTensor([shape.frames, shape.height, shape.width, shape.outputs], seed: 4, dtype: dtype)
            for residual in [nil, added] {
                let y = Tensor.stacked(
                    backend.convolution(x.slices, weights, added: residual?.slices))
                let expected = Reference.convolution(x, weight, bias: bias, residual: residual)
                #expect(y.dtype == dtype && y.shape == expected.shape)
                #expect(maxRelativeDifference(y, expected) < Backends.tolerance(dtype), "\(shape)")
            }
        }
    }

    @Test("one set of weights serves images of different sizes in turn", arguments: Backends.dtypes)
    func sizes(dtype: DType) throws {
        let backend = try Backends.backend(.best)
        let weight = randomTensor([6, 7, 3, 3, 3], seed: 2, dtype: .float16)
        let weights = backend.convolutionWeights(weight, bias: nil, dtype: dtype)
        for (height, width) in [(2, 2), (9, 33), (2, 2), (21, 64)] {
            let x = randomTensor([3, height, width, 7], seed: 1, dtype: dtype)
            let expected = Reference.convolution(x, weight, bias: nil, residual: nil)
            #expect(
                maxRelativeDifference(Tensor.stacked(backend.convolution(x.slices, weights, added: nil)), expected)
                    < Backends.tolerance(dtype))
        }
    }

    @Test(
        "the folded enlargement equals enlarging and then convolving", arguments: InstructionSet.allCases,
        Backends.dtypes)
    func enlarged(set: InstructionSet, dtype: DType) throws {
        let backend = try Backends.backend(set)
        for (height, width, inputs, outputs) in [(1, 1, 3, 4), (5, 3, 16, 33), (2, 130, 6, 70)] {
            let x = randomTensor([2, height, width, inputs], seed: 1, dtype: dtype)
            let weight = randomTensor([outputs, inputs, 1, 3, 3], seed: 2, dtype: dtype)
            let bias = randomTensor([outputs], seed: 3)
            let y = Tensor.stacked(
                backend.enlargedConvolution(
                    x.slices, backend.enlargingWeights(weight, bias: bias, dtype: dtype)))
            let expected = Reference.convolution(Reference.enlarged(x), weight, bias: bias, residual: nil)
            // Sums of two or four weights are rounded again in bfloat16.
            #expect(maxRelativeDifference(y, expected) < 2 * Backends.tolerance(dtype))
        }
    }

    @Test("the halving convolution reads every second pixel", arguments: InstructionSet.allCases, Backends.dtypes)
    func halved(set: InstructionSet, dtype: DType) throws {
        let backend = try Backends.backend(set)
        for (height, width, inputs, outputs) in [(2, 2, 3, 4), (6, 4, 16, 33), (2, 260, 6, 70), (5, 7, 8, 8)] {
            let x = randomTensor([2, height, width, inputs], seed: 1, dtype: dtype)
            let weight = randomTensor([outputs, inputs, 1, 3, 3], seed: 2, dtype: dtype)
            let bias = randomTensor([outputs], seed: 3)
            let y = Tensor.stacked(
                backend.halvedConvolution(x.slices, backend.halvingWeights(weight, bias: bias, dtype: dtype)))
            let expected = Reference.everySecond(Reference.convolution(x, weight, bias: bias, residual: nil))
            #expect(y.shape == [2, height / 2, width / 2, outputs])
            #expect(maxRelativeDifference(y, expected) < Backends.tolerance(dtype))
        }
    }
}
