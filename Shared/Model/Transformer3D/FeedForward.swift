import Checkpoint
import Compute
import Failure
import Tensor

/// `W₂ gelu_tanh(W₁ x + b₁) + b₂` with a hidden layer of four times the width (`FeedForward`, gelu-approximate).
struct FeedForward: Sendable {
    private let input: any LinearWeights
    private let output: any LinearWeights

    /// The hidden layer of a long clip would be the largest tensor of the forward pass; beyond this it is cut in rows.
    private static let hiddenByteLimit = 256 << 20

    static func expect(_ expected: inout ExpectedWeights, prefix: String, config: Transformer3DConfig) {
        let width = config.innerDim
        expected.linear("\(prefix).net.0.proj", inputs: width, outputs: 4 * width)
        expected.linear("\(prefix).net.2", inputs: 4 * width, outputs: width)
    }

    init(_ loader: LayerLoader, prefix: String) throws(Failure) {
        input = try loader.linear("\(prefix).net.0.proj")
        output = try loader.linear("\(prefix).net.2")
    }

    /// `[rows, width]` → `[rows, width]`
    func callAsFunction(_ x: Tensor, backend: any Backend) -> Tensor {
        let rows = x.shape[0]
        let rowLimit = max(1, Self.hiddenByteLimit / (input.outputs * x.dtype.byteCount))
        if rows <= rowLimit { return product(x, backend: backend) }
        let pieces = stride(from: 0, to: rows, by: rowLimit).map { start in
            product(x.rows(start..<min(start + rowLimit, rows)), backend: backend)
        }
        return Tensor.concatenated(pieces)
    }

    private func product(_ x: Tensor, backend: any Backend) -> Tensor {
        backend.linear(backend.linear(x, input, activation: .geluTanh), output, activation: .none)
    }
}
