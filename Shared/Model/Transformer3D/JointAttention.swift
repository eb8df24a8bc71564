import Checkpoint
import Compute
import Failure
import Tensor

#if canImport(Glibc)
import Glibc
#elseif canImport(Musl)
import Musl
#endif

/// Full attention over text and video tokens, with normalised queries and keys (`CogVideoXAttnProcessor2_0`).
///
/// Queries, keys and values are three products and not one: attention wants each dense, and cutting a joint result
/// apart would cost a tenth of the product's time in memory traffic.
struct JointAttention: Sendable {
    private let query: any LinearWeights
    private let key: any LinearWeights
    private let value: any LinearWeights
    private let output: any LinearWeights
    private let queryNorm: NormWeights
    private let keyNorm: NormWeights
    private let heads: Int
    private let scale: Float

    private static let normEpsilon: Float = 1e-6

    static func expect(_ expected: inout ExpectedWeights, prefix: String, config: Transformer3DConfig) {
        let width = config.innerDim
        for name in ["to_q", "to_k", "to_v"] {
            expected.linear("\(prefix).\(name)", inputs: width, outputs: width, bias: config.attentionBias)
        }
        expected.linear("\(prefix).to_out.0", inputs: width, outputs: width)
        expected.norm("\(prefix).norm_q", width: config.attentionHeadDim)
        expected.norm("\(prefix).norm_k", width: config.attentionHeadDim)
    }

    init(_ loader: LayerLoader, prefix: String, config: Transformer3DConfig) throws(Failure) {
        query = try loader.linear("\(prefix).to_q")
        key = try loader.linear("\(prefix).to_k")
        value = try loader.linear("\(prefix).to_v")
        output = try loader.linear("\(prefix).to_out.0")
        queryNorm = try loader.norm("\(prefix).norm_q")
        keyNorm = try loader.norm("\(prefix).norm_k")
        heads = config.numAttentionHeads
        scale = 1 / Float(config.attentionHeadDim).squareRoot()
    }

    /// `rows` holds text and video of each prompt in turn; `queries` is the same, or the video rows alone.
    /// Returns one output for each prompt with as many rows as it has queries.
    func callAsFunction(
        _ rows: Tensor, queries: Tensor, textLength: Int, prompts: Int, rotary: RotaryTables?, backend: any Backend
    ) -> [Tensor] {
        let length = rows.shape[0] / prompts
        let queryLength = queries.shape[0] / prompts
        let allQueries = backend.linear(queries, query, activation: .none)
        let allKeys = backend.linear(rows, key, activation: .none)
        let allValues = backend.linear(rows, value, activation: .none)
        return (0..<prompts).map { index in
            let q = normalized(
                allQueries.rows((index * queryLength)..<((index + 1) * queryLength)), queryNorm, rotary: rotary,
                rotaryStart: textLength - (length - queryLength), backend: backend)
            let k = normalized(
                allKeys.rows((index * length)..<((index + 1) * length)), keyNorm, rotary: rotary,
                rotaryStart: textLength, backend: backend)
            let v = allValues.rows((index * length)..<((index + 1) * length))
            let attended = backend.attention(q, k, v, heads: heads, scale: scale, bias: nil)
            return backend.linear(attended, output, activation: .none)
        }
    }

    private func normalized(
        _ x: Tensor, _ norm: NormWeights, rotary: RotaryTables?, rotaryStart: Int, backend: any Backend
    ) -> Tensor {
        guard let weight = norm.weight, let bias = norm.bias else { return x }
        return backend.normalizeHeads(
            x, heads: heads, weight: weight, bias: bias, epsilon: Self.normEpsilon,
            cosines: rotary?.cosines, sines: rotary?.sines, rotaryStart: rotaryStart)
    }
}
