import Checkpoint
import Compute
import Failure

/// One joint text–video block (`CogVideoXBlock`).
///
/// The rows of all prompts share the matrix products; attention runs over each prompt's own text and video rows.
struct TransformerBlock: Sendable {
    private let attentionNorm: NormWeights
    private let attention: JointAttention
    private let feedForwardNorm: NormWeights
    private let feedForward: FeedForward
    private let epsilon: Float

    static func expect(_ expected: inout ExpectedWeights, prefix: String, config: Transformer3DConfig) {
        for norm in ["norm1", "norm2"] {
            expected.norm("\(prefix).\(norm).norm", width: config.innerDim, affine: config.normElementwiseAffine)
        }
        JointAttention.expect(&expected, prefix: "\(prefix).attn1", config: config)
        FeedForward.expect(&expected, prefix: "\(prefix).ff", config: config)
    }

    init(_ loader: LayerLoader, prefix: String, config: Transformer3DConfig) throws(Failure) {
        attentionNorm = try loader.norm("\(prefix).norm1.norm", affine: config.normElementwiseAffine)
        attention = try JointAttention(loader, prefix: "\(prefix).attn1", config: config)
        feedForwardNorm = try loader.norm("\(prefix).norm2.norm", affine: config.normElementwiseAffine)
        feedForward = try FeedForward(loader, prefix: "\(prefix).ff")
        epsilon = Float(config.normEps)
    }

    /// Updates the stream. After the last block nobody reads the text, so it is left as it is there.
    func callAsFunction(
        _ stream: inout JointStream, modulation: (attention: NormModulation, feedForward: NormModulation),
        rotary: RotaryTables?, isLast: Bool, backend: any Backend
    ) {
        let normal = backend.modulatedNorm(
            stream.rows, spans: stream.norms(modulation.attention, withText: true), weight: attentionNorm.weight,
            bias: attentionNorm.bias, epsilon: epsilon)
        attention.add(
            normal, to: &stream, gates: stream.gates(modulation.attention, withText: !isLast), rotary: rotary,
            firstQuery: isLast ? stream.textLength : 0, backend: backend)
        let hidden = backend.modulatedNorm(
            stream.rows, spans: stream.norms(modulation.feedForward, withText: !isLast),
            weight: feedForwardNorm.weight, bias: feedForwardNorm.bias, epsilon: epsilon)
        feedForward.add(
            hidden, to: &stream.rows, gates: stream.gates(modulation.feedForward, withText: !isLast),
            backend: backend)
    }
}
