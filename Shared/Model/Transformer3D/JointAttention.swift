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
struct JointAttention: Sendable {
    /// Queries, keys and values as one product.
    private let input: any LinearWeights
    private let output: any LinearWeights
    private let queryNorm: NormWeights
    private let keyNorm: NormWeights
    private let heads: Int
    private let scale: Float
    private let precision: ProductPrecision

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
        input = try loader.joinedLinear(["to_q", "to_k", "to_v"].map { "\(prefix).\($0)" })
        output = try loader.largeLinear("\(prefix).to_out.0")
        queryNorm = try loader.norm("\(prefix).norm_q")
        keyNorm = try loader.norm("\(prefix).norm_k")
        heads = config.numAttentionHeads
        precision = loader.precision
        scale = 1 / Float(config.attentionHeadDim).squareRoot()
    }

    /// The attention of the normalised rows `x` before the output layer, `[queries, width]`. Queries before
    /// `firstQuery` of a prompt are left out.
    func attended(
        _ x: Tensor, of stream: JointStream, rotary: RotaryTables?, firstQuery: Int, backend: any Backend
    ) -> Tensor {
        let rotation = rotary.map {
            Rotary(cosines: $0.cosines, sines: $0.sines, start: stream.textLength, period: stream.length)
        }
        let parts = backend.headSections(
            x, input, heads: heads, norms: [headNorm(queryNorm, rotation), headNorm(keyNorm, rotation), nil])
        return backend.attention(
            parts[0], parts[1], parts[2], heads: heads, scale: scale, bias: nil, sequences: stream.prompts,
            firstQuery: firstQuery, precision: precision)
    }

    /// Adds the output layer of what `attended` returned to the rows of the gates.
    func add(_ attended: Tensor, to stream: inout JointStream, gates: [GateSpan], backend: any Backend) {
        backend.addLinear(attended, output, to: &stream.rows, spans: gates)
    }

    private func headNorm(_ norm: NormWeights, _ rotation: Rotary?) -> HeadNorm? {
        guard let weight = norm.weight, let bias = norm.bias else { return nil }
        return HeadNorm(weight: weight, bias: bias, epsilon: Self.normEpsilon, rotary: rotation)
    }
}
