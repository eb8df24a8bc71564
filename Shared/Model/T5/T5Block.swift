import Checkpoint
import Compute
import Failure
import Tensor

/// One encoder layer of T5: self-attention and feed-forward, each behind an RMS norm and a residual (`T5Block`).
struct T5Block: Sendable {
    private let attentionNorm: Tensor
    /// Queries, keys and values as one product.
    private let input: any LinearWeights
    private let output: any LinearWeights
    private let feedForwardNorm: Tensor
    private let feedForward: T5FeedForward
    private let heads: Int
    private let epsilon: Float

    static func expect(_ expected: inout ExpectedWeights, prefix: String, config: T5Config) {
        let inner = config.numHeads * config.dKV
        for name in ["q", "k", "v"] {
            expected.linear(
                "\(prefix).layer.0.SelfAttention.\(name)", inputs: config.dModel, outputs: inner, bias: false)
        }
        expected.linear("\(prefix).layer.0.SelfAttention.o", inputs: inner, outputs: config.dModel, bias: false)
        expected.tensor("\(prefix).layer.0.layer_norm.weight", [config.dModel])
        T5FeedForward.expect(&expected, prefix: "\(prefix).layer.1.DenseReluDense", config: config)
        expected.tensor("\(prefix).layer.1.layer_norm.weight", [config.dModel])
    }

    init(_ loader: LayerLoader, prefix: String, config: T5Config) throws(Failure) {
        attentionNorm = try loader.vector("\(prefix).layer.0.layer_norm.weight")
        input = try loader.joinedLinear(["q", "k", "v"].map { "\(prefix).layer.0.SelfAttention.\($0)" })
        output = try loader.largeLinear("\(prefix).layer.0.SelfAttention.o")
        feedForwardNorm = try loader.vector("\(prefix).layer.1.layer_norm.weight")
        feedForward = try T5FeedForward(loader, prefix: "\(prefix).layer.1.DenseReluDense", config: config)
        heads = config.numHeads
        epsilon = Float(config.layerNormEpsilon)
    }

    /// `x` `[sequences · length, dModel]` in place; `bias` `[heads, length, length]`. T5 does not scale its scores.
    func callAsFunction(_ x: inout Tensor, bias: Tensor, sequences: Int, backend: any Backend) {
        let whole = [GateSpan(rows: 0..<x.shape[0], gate: nil)]
        let y = backend.rmsNorm(x, weight: attentionNorm, epsilon: epsilon)
        let parts = backend.headSections(y, input, heads: heads, norms: [nil, nil, nil])
        let attended = backend.attention(
            parts[0], parts[1], parts[2], heads: heads, scale: 1, bias: bias, sequences: sequences, firstQuery: 0,
            precision: .activation)
        backend.addLinear(attended, output, to: &x, spans: whole)
        let z = backend.rmsNorm(x, weight: feedForwardNorm, epsilon: epsilon)
        feedForward.add(z, to: &x, backend: backend)
    }
}
