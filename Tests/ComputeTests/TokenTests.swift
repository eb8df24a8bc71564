import Compute
import Tensor
import TestSupport
import Testing

@Suite("Token operations")
struct TokenTests {
    static let widths = [1, 3, 16, 37, 64, 130]

    @Test(
        "LayerNorm with and without affine parameters and modulation", arguments: InstructionSet.allCases,
        Backends.dtypes)
    func layerNorm(set: InstructionSet, dtype: DType) throws {
        let backend = try Backends.backend(set)
        for width in Self.widths {
            let x = randomTensor([5, width], seed: 1, scale: 3, dtype: dtype)
            let vectors = (0..<4).map { randomTensor([width], seed: UInt64(10 + $0)) }
            for used in [0, 2, 4] {
                let y = backend.layerNorm(
                    x, weight: used > 0 ? vectors[0] : nil, bias: used > 0 ? vectors[1] : nil, epsilon: 1e-5,
                    scale: used > 2 ? vectors[2] : nil, shift: used > 2 ? vectors[3] : nil)
                var expected: [Float] = []
                for row in 0..<5 {
                    let values = x.rows(row..<row + 1).floats().map(Double.init)
                    let normal = Reference.normalize(
                        values, epsilon: 1e-5, weight: used > 0 ? vectors[0].floats() : nil,
                        bias: used > 0 ? vectors[1].floats() : nil)
                    expected += normal.indices.map { c in
                        let scale = used > 2 ? vectors[2].floats()[c] : 0, shift = used > 2 ? vectors[3].floats()[c] : 0
                        return Float(normal[c] * (1 + Double(scale)) + Double(shift))
                    }
                }
                let reference = Tensor(expected, shape: x.shape)
                #expect(maxAbsoluteDifference(y, reference) < 4 * Backends.tolerance(dtype), "\(width), \(used)")
            }
        }
    }

    @Test("RMSNorm divides by the root of the mean square", arguments: InstructionSet.allCases, Backends.dtypes)
    func rmsNorm(set: InstructionSet, dtype: DType) throws {
        let backend = try Backends.backend(set)
        for width in Self.widths {
            let x = randomTensor([4, width], seed: 2, scale: 5, dtype: dtype), weight = randomTensor([width], seed: 3)
            let y = backend.rmsNorm(x, weight: weight, epsilon: 1e-6)
            var expected: [Float] = []
            for row in 0..<4 {
                let values = x.rows(row..<row + 1).floats()
                let mean = values.reduce(0.0) { $0 + Double($1) * Double($1) } / Double(width)
                expected += zip(values, weight.floats()).map { Float(Double($0) / (mean + 1e-6).squareRoot()) * $1 }
            }
            let reference = Tensor(expected, shape: x.shape)
            #expect(maxRelativeDifference(y, reference) < Backends.tolerance(dtype), "\(width)")
        }
    }

    @Test(
        "heads are normalised apart, and only rows from the rotary start are rotated",
        arguments: InstructionSet.allCases, Backends.dtypes)
    func heads(set: InstructionSet, dtype: DType) throws {
        let backend = try Backends.backend(set)
        for (heads, size) in [(1, 2), (3, 16), (2, 64), (2, 22), (1, 128)] {
            let rows = 7, start = 3
            let x = randomTensor([rows, heads * size], seed: 4, dtype: dtype)
            let weight = randomTensor([size], seed: 5), bias = randomTensor([size], seed: 6)
            let cosines = randomTensor([rows - start, size], seed: 7),
                sines = randomTensor([rows - start, size], seed: 8)
            // Products by the identity, so that the sections are the rows themselves.
            let width = heads * size,
                identity = Tensor(
                    (0..<3 * width * width).map { $0 / width % width == $0 % width ? 1 : 0 }, shape: [3 * width, width])
            let weights = backend.linearWeights(identity, bias: nil, dtype: dtype)
            let rotary = Rotary(cosines: cosines, sines: sines, start: start, period: rows)
            let two = Tensor.concatenated([x, x])
            let sections = backend.headSections(
                two, weights, heads: heads,
                norms: [
                    HeadNorm(weight: weight, bias: bias, epsilon: 1e-6, rotary: rotary),
                    HeadNorm(weight: weight, bias: bias, epsilon: 1e-6, rotary: nil), nil,
                ])
            let y = sections[0].rows(rows..<2 * rows), plain = sections[1].rows(0..<rows)
            #expect(identical(sections[0].rows(0..<rows), y), "two sequences differ")
            #expect(identical(sections[2], two), "a section without a norm is changed")
            var expected: [Float] = [], unrotated: [Float] = []
            let values = x.floats(), c = cosines.floats(), s = sines.floats()
            for row in 0..<rows {
                for head in 0..<heads {
                    let first = (row * heads + head) * size
                    let n = Reference.normalize(
                        values[first..<first + size].map(Double.init), epsilon: 1e-6, weight: weight.floats(),
                        bias: bias.floats())
                    unrotated += n.map { Float($0) }
                    for i in 0..<size {
                        let angle = (row - start) * size + i
                        let turned = i % 2 == 0 ? -n[(i + 1) % size] : n[i - 1]
                        expected.append(Float(row < start ? n[i] : n[i] * Double(c[angle]) + turned * Double(s[angle])))
                    }
                }
            }
            let tolerance = 4 * Backends.tolerance(dtype)
            #expect(maxAbsoluteDifference(y, Tensor(expected, shape: x.shape)) < tolerance, "\(heads)×\(size)")
            #expect(maxAbsoluteDifference(plain, Tensor(unrotated, shape: x.shape)) < tolerance, "\(heads)×\(size)")
        }
    }

    @Test("a gated residual adds gate ⊙ y, and no gate adds y", arguments: InstructionSet.allCases, Backends.dtypes)
    func residual(set: InstructionSet, dtype: DType) throws {
        let backend = try Backends.backend(set)
        for width in Self.widths {
            let x = randomTensor([6, width], seed: 1, dtype: dtype),
                y = randomTensor([6, width], seed: 2, dtype: dtype)
            for gate in [nil, randomTensor([width], seed: 3)] {
                var sum = x
                backend.addGated(&sum, y, gate: gate)
                let gates = gate?.floats() ?? [Float](repeating: 1, count: width)
                let expected = zip(x.floats(), y.floats()).enumerated().map { $1.0 + gates[$0 % width] * $1.1 }
                #expect(maxAbsoluteDifference(sum, Tensor(expected, shape: x.shape)) < 2 * Backends.tolerance(dtype))
                #expect(identical(x, randomTensor([6, width], seed: 1, dtype: dtype)), "the shared operand changed")
            }
        }
    }

    @Test("products, means and SiLU go element by element", arguments: InstructionSet.allCases, Backends.dtypes)
    func elementwise(set: InstructionSet, dtype: DType) throws {
        let backend = try Backends.backend(set)
        for count in [0, 1, 15, 33, 70_001] {
            let a = randomTensor([count], seed: 1, scale: 8, dtype: dtype),
                b = randomTensor([count], seed: 2, dtype: dtype)
            let product = Tensor(zip(a.floats(), b.floats()).map { $0 * $1 }, shape: [count]).converted(to: dtype)
            #expect(identical(backend.multiply(a, b), product))
            let mean = Tensor(zip(a.floats(), b.floats()).map { ($0 + $1) * 0.5 }, shape: [count]).converted(to: dtype)
            #expect(identical(backend.mean(a, b), mean))
            let silu = Tensor(a.floats().map { Float(Reference.activate(Double($0), .silu)) }, shape: [count])
            #expect(maxRelativeDifference(backend.silu(a), silu) < Backends.tolerance(dtype))
        }
    }

    @Test("an embedding gathers rows in any stored type", arguments: InstructionSet.allCases, Backends.dtypes)
    func embedding(set: InstructionSet, dtype: DType) throws {
        let backend = try Backends.backend(set)
        for stored in [DType.float32, .float16, .bfloat16] {
            let table = randomTensor([9, 21], seed: 1, dtype: stored)
            let rows = backend.embedding([8, 0, 3, 3], table: table, dtype: dtype)
            let expected = Tensor.concatenated([8, 0, 3, 3].map { table.rows($0..<$0 + 1) })
            #expect(identical(rows, expected.converted(to: .float32).converted(to: dtype)))
        }
        #expect(backend.embedding([], table: Tensor(zeros: [2, 3]), dtype: dtype).shape == [0, 3])
    }
}
