import Checkpoint
import Compute
import Failure
import Tensor

/// One joint text–video block (`CogVideoXBlock`).
///
/// The rows of all prompts share the matrix products; attention runs over each prompt's own text and video rows.
struct TransformerBlock: Sendable {
    private let attentionNorm: NormWeights
    private var attention: JointAttention
    private let feedForwardNorm: NormWeights
    private var feedForward: FeedForward
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

    /// Packs anew what lies in the layers that `isChanged` says begin with changed names, with the adapters of `loader`.
    mutating func adapt(
        _ loader: LayerLoader, prefix: String, config: Transformer3DConfig, isChanged: (String) -> Bool
    ) throws(Failure) {
        if isChanged("\(prefix).attn1.") {
            attention = try JointAttention(loader, prefix: "\(prefix).attn1", config: config)
        }
        if isChanged("\(prefix).ff.") { feedForward = try FeedForward(loader, prefix: "\(prefix).ff") }
    }

    /// Updates the stream. After the last block nobody reads the text, so it is left as it is there.
    func callAsFunction(
        _ stream: inout JointStream, modulation: (attention: NormModulation, feedForward: NormModulation),
        rotary: RotaryTables?, isLast: Bool, reuse: inout AttentionReuse, backend: any Backend
    ) {
        attend(
            &stream, modulation: modulation.attention, rotary: rotary, isLast: isLast, reuse: &reuse, backend: backend)
        let hidden = backend.modulatedNorm(
            stream.rows, spans: stream.norms(modulation.feedForward, withText: !isLast),
            weight: feedForwardNorm.weight, bias: feedForwardNorm.bias, epsilon: epsilon)
        feedForward.add(
            hidden, to: &stream.rows, gates: stream.gates(modulation.feedForward, withText: !isLast),
            backend: backend)
    }

    private func attend(
        _ stream: inout JointStream, modulation: NormModulation, rotary: RotaryTables?, isLast: Bool,
        reuse: inout AttentionReuse, backend: any Backend
    ) {
        let gates = stream.gates(modulation, withText: !isLast)
        if case .kept(let attended) = reuse {
            attention.add(attended, to: &stream, gates: gates, backend: backend)
            return
        }
        let normal = backend.modulatedNorm(
            stream.rows, spans: stream.norms(modulation, withText: true), weight: attentionNorm.weight,
            bias: attentionNorm.bias, epsilon: epsilon)
        let attended = attention.attended(
            normal, of: stream, rotary: rotary, firstQuery: isLast ? stream.textLength : 0, backend: backend)
        if case .keep = reuse { reuse = .kept(attended) }
        attention.add(attended, to: &stream, gates: gates, backend: backend)
    }
}

/// What a block does with its attention under Pyramid Attention Broadcast.
enum AttentionReuse: Sendable {
    /// Compute it and let it go.
    case compute
    /// Compute it and keep it: becomes `kept`.
    case keep
    /// Use this, which an earlier step kept.
    case kept(Tensor)
}
