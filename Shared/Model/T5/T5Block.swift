import Checkpoint
import Compute
import Failure
import Tensor

/// One encoder layer of T5: self-attention and feed-forward, each behind an RMS norm and a residual (`T5Block`).
struct T5Block: Sendable {
    private let attentionNorm: Tensor
    private let query: any LinearWeights
    private let key: any LinearWeights
    private let value: any LinearWeights
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
        query = try loader.linear("\(prefix).layer.0.SelfAttention.q")
        key = try loader.linear("\(prefix).layer.0.SelfAttention.k")
        value = try loader.linear("\(prefix).layer.0.SelfAttention.v")
        output = try loader.linear("\(prefix).layer.0.SelfAttention.o")
        feedForwardNorm = try loader.vector("\(prefix).layer.1.layer_norm.weight")
        feedForward = try T5FeedForward(loader, prefix: "\(prefix).layer.1.DenseReluDense", config: config)
        heads = config.numHeads
        epsilon = Float(config.layerNormEpsilon)
    }

    /// `x` `[length, dModel]` in place; `bias` `[heads, length, length]`. T5 does not scale its scores.
    func callAsFunction(_ x: inout Tensor, bias: Tensor, backend: any Backend) {
        let y = backend.rmsNorm(x, weight: attentionNorm, epsilon: epsilon)
        let attended = backend.attention(
            backend.linear(y, query, activation: .none), backend.linear(y, key, activation: .none),
            backend.linear(y, value, activation: .none), heads: heads, scale: 1, bias: bias)
        backend.addGated(&x, backend.linear(attended, output, activation: .none), gate: nil)
        let z = backend.rmsNorm(x, weight: feedForwardNorm, epsilon: epsilon)
        backend.addGated(&x, feedForward(z, backend: backend), gate: nil)
    }
}
