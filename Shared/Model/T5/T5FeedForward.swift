import Checkpoint
import Compute
import Failure
import Tensor

/// `wo(act(wi x))`, or `wo(act(wi_0 x) ⊙ wi_1 x)` when gated (`T5DenseActDense`, `T5DenseGatedActDense`).
struct T5FeedForward: Sendable {
    private let input: any LinearWeights
    private let gate: (any LinearWeights)?
    private let output: any LinearWeights
    private let activation: T5Config.Activation

    static func expect(_ expected: inout ExpectedWeights, prefix: String, config: T5Config) {
        for name in config.isGatedAct ? ["wi_0", "wi_1"] : ["wi"] {
            expected.linear("\(prefix).\(name)", inputs: config.dModel, outputs: config.dFF, bias: false)
        }
        expected.linear("\(prefix).wo", inputs: config.dFF, outputs: config.dModel, bias: false)
    }

    init(_ loader: LayerLoader, prefix: String, config: T5Config) throws(Failure) {
        input = try loader.largeLinear(config.isGatedAct ? "\(prefix).wi_0" : "\(prefix).wi")
        gate = config.isGatedAct ? try loader.largeLinear("\(prefix).wi_1") : nil
        output = try loader.largeLinear("\(prefix).wo")
        activation = config.denseActFn
    }

    /// Adds the layer's output for `x` to `target`.
    func add(_ x: Tensor, to target: inout Tensor, backend: any Backend) {
        var hidden =
            switch activation {
            case .geluNew: backend.linear(x, input, activation: .geluTanh)
            case .silu: backend.linear(x, input, activation: .silu)
            case .relu: relu(backend.linear(x, input, activation: .none))
            }
        if let gate { hidden = backend.multiply(hidden, backend.linear(x, gate, activation: .none)) }
        backend.addLinear(hidden, output, to: &target, spans: [GateSpan(rows: 0..<x.shape[0], gate: nil)])
    }
}
