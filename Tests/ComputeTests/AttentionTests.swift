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
