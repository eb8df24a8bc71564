import Checkpoint
import Compute
import Failure
import Tensor

/// The residual streams of a forward pass: text and video tokens `[rows, width]` of every prompt.
///
/// Kept apart because a block modulates them differently, and each is added to in place.
struct TokenStreams {
    var text: [Tensor]
    var video: [Tensor]

    var textLength: Int { text[0].shape[0] }
    var videoLength: Int { video[0].shape[0] }
}

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

    /// Updates the streams. After the last block nobody reads the text, so it is left as it is there.
    func callAsFunction(
        _ streams: inout TokenStreams, modulation: (attention: NormModulation, feedForward: NormModulation),
        rotary: RotaryTables?, isLast: Bool, backend: any Backend
    ) {
        do {
            let rows = normalized(streams, attentionNorm, modulation.attention, withText: true, backend: backend)
            let queries =
                isLast
                ? normalized(streams, attentionNorm, modulation.attention, withText: false, backend: backend) : rows
            let outputs = attention(
                rows, queries: queries, textLength: streams.textLength, prompts: streams.text.count, rotary: rotary,
                backend: backend)
            for (index, output) in outputs.enumerated() {
                add(output, to: &streams, index: index, modulation.attention, withText: !isLast, backend: backend)
            }
        }
        let rows = normalized(streams, feedForwardNorm, modulation.feedForward, withText: !isLast, backend: backend)
        let outputs = feedForward(rows, backend: backend)
        let length = streams.videoLength + (isLast ? 0 : streams.textLength)
        for index in streams.video.indices {
            let output = outputs.rows((index * length)..<((index + 1) * length))
            add(output, to: &streams, index: index, modulation.feedForward, withText: !isLast, backend: backend)
        }
    }

    /// The modulated norm of all streams, prompt by prompt, text before video.
    private func normalized(
        _ streams: TokenStreams, _ norm: NormWeights, _ modulation: NormModulation, withText: Bool,
        backend: any Backend
    ) -> Tensor {
        var parts: [Tensor] = []
        for index in streams.video.indices {
            if withText {
                parts.append(
                    backend.layerNorm(
                        streams.text[index], weight: norm.weight, bias: norm.bias, epsilon: epsilon,
                        scale: modulation.textScale, shift: modulation.textShift))
            }
            parts.append(
                backend.layerNorm(
                    streams.video[index], weight: norm.weight, bias: norm.bias, epsilon: epsilon,
                    scale: modulation.scale, shift: modulation.shift))
        }
        return parts.count == 1 ? parts[0] : Tensor.concatenated(parts)
    }

    private func add(
        _ output: Tensor, to streams: inout TokenStreams, index: Int, _ modulation: NormModulation, withText: Bool,
        backend: any Backend
    ) {
        let text = withText ? streams.textLength : 0
        if withText {
            backend.addGated(&streams.text[index], output.rows(0..<text), gate: modulation.textGate)
        }
        backend.addGated(&streams.video[index], output.rows(text..<output.shape[0]), gate: modulation.gate)
    }
}
