package import Checkpoint
import Compute
import Failure
import Tensor

/// The adapters that a transformer's weights are merged with, first to last.
///
/// A weight W becomes W + Σ weight · scale · up · down, summed in float32 and only then packed in the network's precision,
/// quantised too. Nothing of the base is kept in another form: it stays in its mapped file, from which a weight that no
/// adapter changes any more is packed again, to the bits that it had.
package struct AdapterStack: Sendable {
    /// An adapter and what its scale is multiplied by.
    package struct Entry: Sendable {
        package let weights: AdapterWeights
        package let weight: Double

        package init(_ weights: AdapterWeights, weight: Double) {
            self.weights = weights
            self.weight = weight
        }
    }

    package let entries: [Entry]
    /// Every layer that one of them changes.
    let layers: Set<String>

    /// No adapter.
    package static let none = AdapterStack([])

    /// Those of weight 0 change nothing and are left out.
    package init(_ entries: [Entry]) {
        self.entries = entries.filter { $0.weight != 0 }
        layers = self.entries.reduce(into: []) { $0.formUnion($1.weights.layers) }
    }

    /// Whether a layer whose name begins so is changed.
    func changes(_ prefix: String) -> Bool { layers.contains { $0.hasPrefix(prefix) } }

    /// Fails with `adapter_shape_mismatch` where an adapter is for another transformer than that of `expected` shapes.
    func check(expected shapes: [String: [Int]]) throws(Failure) {
        for entry in entries { try entry.weights.check(shapes: shapes) }
    }

    /// The weight `[out, …]` of `layer` merged, `[out, everything else]` in float32; as it is where nothing changes it.
    func merged(_ weight: Tensor, layer: String, backend: any Backend) -> Tensor {
        let changes = changes(of: layer)
        guard !changes.isEmpty else { return weight }
        let outputs = weight.shape[0]
        var sum = backend.converted(weight, to: .float32).reshaped([outputs, weight.count / max(outputs, 1)])
        for (delta, factor) in changes {
            let down = backend.permuted(delta.down.converted(to: .float32), axes: [1, 0])
            let product = backend.linearWeights(down, bias: nil, dtype: .float32)
            let up = Self.scaled(delta.up, by: factor)
            backend.addLinear(up, product, to: &sum, spans: [GateSpan(rows: 0..<outputs, gate: nil)])
        }
        // The sum is a copy: the file's bytes have been read once and are not needed again.
        weight.dropMappedPages()
        return sum
    }

    /// The bias `[out]` of `layer` with what the adapters add to it, float32; as it is where they add nothing.
    func mergedBias(_ bias: Tensor?, layer: String) -> Tensor? {
        var sum = bias
        for (delta, factor) in changes(of: layer) {
            guard let added = delta.bias else { continue }
            let change = Self.scaled(added, by: factor).floats()
            let values = sum?.floats() ?? [Float](repeating: 0, count: change.count)
            sum = Tensor(zip(values, change).map { $0 + $1 }, shape: [change.count])
        }
        return sum
    }

    /// What changes a layer, with weight times scale.
    private func changes(of layer: String) -> [(delta: AdapterWeights.Delta, factor: Float)] {
        entries.compactMap { entry in
            entry.weights.delta(for: layer).map { ($0, Float(entry.weight * $0.scale)) }
        }
    }

    private static func scaled(_ tensor: Tensor, by factor: Float) -> Tensor {
        Tensor(tensor.floats().map { $0 * factor }, shape: tensor.shape)
    }
}
