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
        input = try loader.linear(config.isGatedAct ? "\(prefix).wi_0" : "\(prefix).wi")
        gate = config.isGatedAct ? try loader.linear("\(prefix).wi_1") : nil
        output = try loader.linear("\(prefix).wo")
        activation = config.denseActFn
    }

    func callAsFunction(_ x: Tensor, backend: any Backend) -> Tensor {
        var hidden =
            switch activation {
            case .geluNew: backend.linear(x, input, activation: .geluTanh)
            case .silu: backend.linear(x, input, activation: .silu)
            case .relu: relu(backend.linear(x, input, activation: .none))
            }
        if let gate { hidden = backend.multiply(hidden, backend.linear(x, gate, activation: .none)) }
        return backend.linear(hidden, output, activation: .none)
    }
}
