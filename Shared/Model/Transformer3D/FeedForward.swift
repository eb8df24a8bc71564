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
        input = try loader.largeLinear("\(prefix).net.0.proj")
        output = try loader.largeLinear("\(prefix).net.2")
    }

    /// Adds the layer's output for the rows `x` to the rows of the gates.
    func add(_ x: Tensor, to target: inout Tensor, gates: [GateSpan], backend: any Backend) {
        let rows = x.shape[0]
        let rowLimit = max(1, Self.hiddenByteLimit / (input.outputs * x.dtype.byteCount))
        for start in stride(from: 0, to: rows, by: rowLimit) {
            let part = start..<min(start + rowLimit, rows)
            let hidden = backend.linear(x.rows(part), input, activation: .geluTanh)
            backend.addLinear(hidden, output, to: &target, spans: Self.cut(gates, to: part))
        }
    }

    /// The parts of spans whose rows, counted one span after the other, lie within `range`.
    private static func cut(_ spans: [GateSpan], to range: Range<Int>) -> [GateSpan] {
        var start = 0
        return spans.compactMap { span in
            defer { start += span.rows.count }
            let common = range.clamped(to: start..<(start + span.rows.count))
            guard !common.isEmpty else { return nil }
            let first = span.rows.lowerBound + common.lowerBound - start
            return GateSpan(rows: first..<first + common.count, gate: span.gate)
        }
    }
}
