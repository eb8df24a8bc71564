import Compute
import Tensor
import TestSupport
import Testing

@Suite("Linear")
struct LinearTests {
    static let shapes: [[Int]] = [
        [1, 1, 1], [1, 5, 3], [7, 13, 17], [2, 64, 1], [128, 32, 64], [129, 64, 513], [130, 100, 1030], [385, 33, 70],
        [0, 4, 4],
    ]

    @Test(
        "activation(x Wᵀ + b) equals the plain sum for every shape, type and instruction set",
        arguments: InstructionSet.allCases, Backends.dtypes)
    func products(set: InstructionSet, dtype: DType) throws {
        let backend = try Backends.backend(set)
        for (index, shape) in Self.shapes.enumerated() {
            let (rows, inputs, outputs) = (shape[0], shape[1], shape[2])
            let activation = [Activation.none, .silu, .geluTanh][index % 3]
            let x = randomTensor([rows, inputs], seed: UInt64(index), dtype: dtype)
            let weight = randomTensor([outputs, inputs], seed: 100, dtype: dtype)
            let bias = index % 2 == 0 ? randomTensor([outputs], seed: 101) : nil
            let y = backend.linear(x, backend.linearWeights(weight, bias: bias, dtype: dtype), activation: activation)
            #expect(y.dtype == dtype && y.shape == [rows, outputs])
            let expected = Reference.linear(x, weight, bias: bias, activation: activation)
            #expect(maxRelativeDifference(y, expected) < Backends.tolerance(dtype), "\(shape)")
        }
    }

    @Test("weights stored as float16, bfloat16 or float32 give the product of their values", arguments: Backends.dtypes)
    func storedTypes(dtype: DType) throws {
        let backend = try Backends.backend(.best)
        let x = randomTensor([9, 40], seed: 1, dtype: dtype)
        for stored in [DType.float16, .bfloat16, .float32] {
            let weight = randomTensor([50, 40], seed: 2, dtype: .bfloat16).converted(to: stored)
            let bias = randomTensor([50], seed: 3, dtype: stored)
            let weights = backend.linearWeights(weight, bias: bias, dtype: dtype)
            #expect(weights.inputs == 40 && weights.outputs == 50)
            let y = backend.linear(x, weights, activation: .none)
            let expected = Reference.linear(x, weight, bias: bias, activation: .none)
            #expect(maxRelativeDifference(y, expected) < Backends.tolerance(dtype))
        }
    }

    @Test("row slices that share storage multiply like copies")
    func slices() throws {
        let backend = try Backends.backend(.best)
        let x = randomTensor([10, 3], seed: 1)
        let weights = backend.linearWeights(randomTensor([4, 3], seed: 2), bias: nil, dtype: .float32)
        let whole = backend.linear(x, weights, activation: .none)
        let part = backend.linear(x.rows(3..<7), weights, activation: .none)
        #expect(maxAbsoluteDifference(part, whole.rows(3..<7)) < 1e-6)
    }

    @Test("activations stay finite and right for very large and very small inputs", arguments: InstructionSet.allCases)
    func extremes(set: InstructionSet) throws {
        let backend = try Backends.backend(set)
        let values: [Float] = [-1e30, -200, -88.5, -20, -1e-3, 0, 1e-30, 1, 20, 87, 200, 1e30]
        let x = Tensor(values, shape: [values.count, 1])
        let weights = backend.linearWeights(Tensor([1], shape: [1, 1]), bias: nil, dtype: .float32)
        for activation in [Activation.silu, .geluTanh] {
            let y = backend.linear(x, weights, activation: activation).floats()
            for (value, result) in zip(values, y) {
                let expected = Reference.activate(Double(value), activation)
                #expect(
                    abs(Double(result) - expected) <= 1e-6 * max(1, abs(expected)),
                    "\(activation)(\(value)) = \(result)")
            }
        }
        #expect(backend.silu(Tensor([.nan], shape: [1])).floats()[0].isNaN)
    }

    @Test(
        "a product added to spans of rows goes through each span's gate", arguments: InstructionSet.allCases,
        Backends.dtypes)
    func gated(set: InstructionSet, dtype: DType) throws {
        let backend = try Backends.backend(set)
        for (rows, inputs, outputs) in [(9, 20, 70), (301, 33, 300)] {
            let x = randomTensor([rows, inputs], seed: 1, dtype: dtype)
            let weight = randomTensor([outputs, inputs], seed: 2, dtype: dtype), bias = randomTensor([outputs], seed: 3)
            let weights = backend.linearWeights(weight, bias: bias, dtype: dtype)
            let before = randomTensor([rows + 5, outputs], seed: 4, dtype: dtype),
                gate = randomTensor([outputs], seed: 5)
            let spans = [GateSpan(rows: 4..<7, gate: gate), GateSpan(rows: 8..<rows + 5, gate: nil)]
            var target = before
            backend.addLinear(x, weights, to: &target, spans: spans)
            let product = Reference.linear(x, weight, bias: bias, activation: .none).floats(), g = gate.floats()
            var expected = before.floats(), source = 0
            for span in spans {
                for row in span.rows {
                    for column in 0..<outputs {
                        expected[row * outputs + column] +=
                            product[source * outputs + column] * (span.gate == nil ? 1 : g[column])
                    }
                    source += 1
                }
            }
            #expect(source == rows)
            #expect(maxRelativeDifference(target, Tensor(expected, shape: before.shape)) < Backends.tolerance(dtype))
            #expect(
                identical(target.rows(0..<4), before.rows(0..<4)) && identical(target.rows(7..<8), before.rows(7..<8)))
        }
    }

    @Test(
        "int8 weights give the product of the rounded operands exactly, and the product within a hundredth",
        arguments: InstructionSet.allCases, Backends.dtypes)
    func int8(set: InstructionSet, dtype: DType) throws {
        let backend = try Backends.backend(set)
        for (rows, inputs, outputs) in [(1, 1, 1), (7, 13, 17), (130, 100, 300), (5, 1027, 70)] {
            let x = randomTensor([rows, inputs], seed: 1, dtype: dtype)
            let weight = randomTensor([outputs, inputs], seed: 2, dtype: dtype), bias = randomTensor([outputs], seed: 3)
            let weights = backend.linearWeights(weight, bias: bias, dtype: dtype, precision: .int8)
            let y = backend.linear(x, weights, activation: .none)
            let rounded = Reference.linear(
                Reference.int8Rows(x), Reference.int8Rows(weight), bias: bias, activation: .none)
            #expect(maxRelativeDifference(y, rounded) < Backends.tolerance(dtype), "\(rows)×\(inputs)×\(outputs)")
            let exact = Reference.linear(x, weight, bias: bias, activation: .none)
            #expect(maxRelativeDifference(y, exact) < 0.02)
        }
    }
}
