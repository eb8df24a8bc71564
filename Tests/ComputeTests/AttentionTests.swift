import Compute
import Tensor
import TestSupport
import Testing

@Suite("Attention")
struct AttentionTests {
    /// queries, keys, heads, head size
    static let shapes: [[Int]] = [
        [1, 1, 1, 16], [5, 3, 2, 8], [97, 193, 2, 64], [200, 400, 1, 40], [6, 192, 1, 128], [13, 50, 3, 7],
        [3, 70, 1, 80], [4, 20, 1, 200], [100, 385, 1, 1], [2, 577, 2, 48], [7, 16, 1, 512],
    ]

    @Test(
        "softmax(q kᵀ · scale + bias) v equals the plain sum for every shape, type and instruction set",
        arguments: InstructionSet.allCases, Backends.dtypes)
    func shapes(set: InstructionSet, dtype: DType) throws {
        let backend = try Backends.backend(set)
        for shape in Self.shapes {
            let (queries, keys, heads, size) = (shape[0], shape[1], shape[2], shape[3])
            let q = randomTensor([queries, heads * size], seed: 1, scale: 2, dtype: dtype)
            let k = randomTensor([keys, heads * size], seed: 2, scale: 2, dtype: dtype)
            let v = randomTensor([keys, heads * size], seed: 3, dtype: dtype)
            for bias in [nil, randomTensor([heads, queries, keys], seed: 4, scale: 4)] {
                let scale = 1 / Float(size).squareRoot()
                let y = backend.attention(q, k, v, heads: heads, scale: scale, bias: bias)
                let expected = Reference.attention(q, k, v, heads: heads, scale: scale, bias: bias)
                #expect(maxAbsoluteDifference(y, expected) < Backends.tolerance(dtype), "\(shape), bias \(bias != nil)")
            }
        }
    }

    @Test(
        "scores in the thousands neither overflow nor lose the winner", arguments: InstructionSet.allCases,
        Backends.dtypes)
    func largeScores(set: InstructionSet, dtype: DType) throws {
        let backend = try Backends.backend(set)
        let keys = 500, winner = 431
        var keyRows = [Float](repeating: 0, count: keys * 8)
        for key in 0..<keys { keyRows[key * 8] = key == winner ? 64 : Float(key % 7) }
        let q = Tensor([64] + [Float](repeating: 0, count: 7), shape: [1, 8]).converted(to: dtype)
        let k = Tensor(keyRows, shape: [keys, 8]).converted(to: dtype)
        let v = randomTensor([keys, 8], seed: 1, dtype: dtype)
        let y = backend.attention(q, k, v, heads: 1, scale: 1, bias: nil)
        #expect(identical(y, v.rows(winner..<winner + 1)))
    }

    /// The largest score of a row sits late, so that what was summed before has to be scaled down: by a little, by much.
    @Test(
        "later and larger scores take over heads of 64 channels", arguments: InstructionSet.allCases, Backends.dtypes)
    func growingScores(set: InstructionSet, dtype: DType) throws {
        let backend = try Backends.backend(set)
        let (queries, keys, size) = (15, 900, 64)
        let q = randomTensor([queries, size], seed: 1, dtype: dtype)
        let v = randomTensor([keys, size], seed: 3, dtype: dtype)
        for growth in [1.5, 12, 90] as [Float] {
            var rows = randomTensor([keys, size], seed: 2).floats()
            for index in rows.indices { rows[index] *= 1 + growth * Float(index / size) / Float(keys) }
            let k = Tensor(rows, shape: [keys, size]).converted(to: dtype)
            let y = backend.attention(q, k, v, heads: 1, scale: 1, bias: nil)
            let expected = Reference.attention(q, k, v, heads: 1, scale: 1, bias: nil)
            #expect(
                maxAbsoluteDifference(y, expected) < (dtype == .float32 ? 5e-5 : Backends.tolerance(dtype)),
                "growth \(growth)")
        }
    }

    @Test(
        "int8 products stay close to the plain sum, whatever all keys have in common",
        arguments: [[1, 1], [5, 70], [97, 193], [13, 577], [400, 1200]], [0.01, 8] as [Float])
    func int8(counts: [Int], offset: Float) throws {
        let backend = try Backends.backend(.best), (queries, keys) = (counts[0], counts[1])
        let shared = randomTensor([64], seed: 5, scale: offset).floats() + randomTensor([64], seed: 6).floats()
        func rows(_ count: Int, seed: UInt64, plus: [Float]) -> Tensor {
            var values = randomTensor([count, 128], seed: seed, scale: 1.5).floats()
            for index in values.indices { values[index] += plus[index % 128] }
            return Tensor(values, shape: [count, 128]).converted(to: .bfloat16)
        }
        let none = [Float](repeating: 0, count: 128)
        for sequences in [1, 2] {
            let q = rows(queries * sequences, seed: 1, plus: none), k = rows(keys * sequences, seed: 2, plus: shared)
            let v = rows(keys * sequences, seed: 3, plus: none)
            let y = backend.attention(
                q, k, v, heads: 2, scale: 0.125, bias: nil, sequences: sequences, firstQuery: queries / 3,
                precision: .int8)
            for sequence in 0..<sequences {
                let first = sequence * queries + queries / 3
                let expected = Reference.attention(
                    q.rows(first..<(sequence + 1) * queries), k.rows(sequence * keys..<(sequence + 1) * keys),
                    v.rows(sequence * keys..<(sequence + 1) * keys), heads: 2, scale: 0.125, bias: nil)
                let count = queries - queries / 3
                let part = y.rows(sequence * count..<(sequence + 1) * count)
                #expect(relativeError(part, expected) < 0.03)
            }
        }
    }

    @Test("large and growing scores in int8 follow the winner")
    func int8Growth() throws {
        let backend = try Backends.backend(.best), keys = 700
        var rows = [Float](repeating: 0, count: keys * 64)
        for key in 0..<keys { rows[key * 64 + key % 64] = Float(key) / 4 }
        let q = Tensor([Float](repeating: 4, count: 64), shape: [1, 64]).converted(to: .bfloat16)
        let k = Tensor(rows, shape: [keys, 64]).converted(to: .bfloat16)
        let v = randomTensor([keys, 64], seed: 1, dtype: .bfloat16)
        let y = backend.attention(
            q, k, v, heads: 1, scale: 1, bias: nil, sequences: 1, firstQuery: 0, precision: .int8)
        let expected = Reference.attention(q, k, v, heads: 1, scale: 1, bias: nil)
        #expect(relativeError(y, expected) < 0.1)
    }

    private func relativeError(_ a: Tensor, _ b: Tensor) -> Float {
        let pairs = zip(a.converted(to: .float32).floats(), b.converted(to: .float32).floats())
        let error = pairs.reduce(Float(0)) { $0 + ($1.0 - $1.1) * ($1.0 - $1.1) }
        return (error / pairs.reduce(Float(0)) { $0 + $1.1 * $1.1 }).squareRoot()
    }

    @Test("a NaN in a query stays in its own row", arguments: InstructionSet.allCases)
    func notANumber(set: InstructionSet) throws {
        let backend = try Backends.backend(set)
        var values = randomTensor([3, 8], seed: 1).floats()
        values[8] = .nan
        let k = randomTensor([20, 8], seed: 2)
        let y = backend.attention(Tensor(values, shape: [3, 8]), k, k, heads: 1, scale: 1, bias: nil).floats()
        #expect(y[8..<16].allSatisfy { $0.isNaN })
        #expect(y[0..<8].allSatisfy { $0.isFinite } && y[16...].allSatisfy { $0.isFinite })
    }
}
