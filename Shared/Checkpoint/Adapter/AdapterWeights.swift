package import Failure
package import Tensor

/// A LoRA adapter of the transformer: for each changed layer two thin matrices whose product is added to its weight.
///
/// The tensors are views of the mapped file where possible. Thread-safe: nothing changes after `init`.
package struct AdapterWeights: Sendable {
    /// The change of one linear layer: weight += scale · up · down.
    package struct Delta: Sendable {
        /// `[rank, in]`; the patch convolution's is flattened from `[rank, channels, height, width]`.
        package let down: Tensor
        /// `[out, rank]`.
        package let up: Tensor
        /// `[out]`, added to the layer's bias times `scale`; hardly any adapter has it.
        package let bias: Tensor?
        /// What the file says the product is to be multiplied by: alpha / rank, or 1 where it does not say.
        package let scale: Double
        /// The alpha that the scale comes from, or nil where the file does not say.
        package let alpha: Double?

        package var rank: Int { down.shape[0] }
    }

    /// The path or name, for messages.
    package let label: String
    /// Every file that it was read from: the weights, and peft's configuration where there is one.
    package let files: [String]
    package let format: AdapterFormat
    /// Names of the changed layers in diffusers' terms, such as `transformer_blocks.0.attn1.to_q`, sorted.
    package let layers: [String]
    /// The most common rank, as diffusers takes it; layers may have others.
    package let rank: Int
    /// What a user should know before the adapter is used.
    package let warnings: [String]
    private let deltas: [String: Delta]

    init(label: String, files: [String], format: AdapterFormat, deltas: [String: Delta], warnings: [String]) {
        self.label = label
        self.files = files
        self.format = format
        self.deltas = deltas
        layers = deltas.keys.sorted()
        let counts = Dictionary(grouping: deltas.values, by: \.rank).mapValues(\.count)
        rank = counts.max { ($0.value, $1.key) < ($1.value, $0.key) }?.key ?? 0
        self.warnings = warnings
    }

    /// The change of a layer, or nil when the adapter leaves it alone.
    package func delta(for layer: String) -> Delta? { deltas[layer] }

    /// The scales that occur, smallest first.
    package var scales: [Double] { Set(deltas.values.map(\.scale)).sorted() }
    /// The ranks that occur, smallest first.
    package var ranks: [Int] { Set(deltas.values.map(\.rank)).sorted() }
    /// Bytes of all matrices.
    package var byteCount: Int {
        deltas.values.reduce(0) { $0 + $1.down.byteCount + $1.up.byteCount + ($1.bias?.byteCount ?? 0) }
    }

    /// Compares the matrices with the transformer's weights, `shapes` by key such as `proj_out.weight`.
    ///
    /// Adapters of text-to-video and image-to-video models look the same: only what cannot fit is refused, as
    /// `adapter_shape_mismatch`, which names every layer that does not.
    package func check(shapes: [String: [Int]]) throws(Failure) {
        var wrong: [String] = []
        for layer in layers {
            guard let delta = deltas[layer] else { continue }
            guard let weight = shapes["\(layer).weight"] else {
                wrong.append("\(layer) is not in the model")
                continue
            }
            let inputs = weight.dropFirst().reduce(1, *)
            if weight.first != delta.up.shape[0] || inputs != delta.down.shape[1] {
                wrong.append("\(layer) is \(weight), the adapter's \(delta.up.shape[0])×\(delta.down.shape[1])")
            }
        }
        guard let first = wrong.first else { return }
        let shown = wrong.prefix(4).joined(separator: "; ")
        let more = wrong.count > 4 ? "; and \(wrong.count - 4) more" : ""
        throw Failure(
            "adapter_shape_mismatch", "\(label) is for another model: \(shown)\(more).", field: first,
            remedy: "Use an adapter that was trained on this model: 2b, 5b and 1.5 differ in size.")
    }
}
