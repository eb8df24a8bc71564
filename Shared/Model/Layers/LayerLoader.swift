import Checkpoint
import Compute
import Failure
import Tensor

/// Weight and bias of a LayerNorm or GroupNorm in float32; both nil when the norm is not affine.
struct NormWeights: Sendable {
    let weight: Tensor?
    let bias: Tensor?
}

/// Turns checkpoint tensors into layer weights of one backend and working dtype.
///
/// The keys must have been checked with `WeightMap.check`, so shapes are right here.
struct LayerLoader {
    let weights: WeightMap
    let backend: any Backend
    let dtype: DType
    /// How the weights of the large products are kept; the small ones always follow the activations.
    var precision: ProductPrecision = .activation
    /// What the weights of linear layers are merged with.
    var adapters = AdapterStack.none

    /// One of the large products.
    func largeLinear(_ name: String) throws(Failure) -> any LinearWeights {
        backend.linearWeights(try weight(name), bias: try bias(name), dtype: dtype, precision: precision)
    }

    /// Several layers of equal input as one large product, their outputs one after the other.
    func joinedLinear(_ names: [String]) throws(Failure) -> any LinearWeights {
        var parts: [Tensor] = []
        var biases: [Tensor] = []
        for name in names {
            parts.append(try weight(name))
            if let bias = try bias(name) { biases.append(bias) }
        }
        // Merged weights are float32; what lies beside them must be too.
        if Set(parts.map(\.dtype)).count > 1 { parts = parts.map { backend.converted($0, to: .float32) } }
        if Set(biases.map(\.dtype)).count > 1 { biases = biases.map { backend.converted($0, to: .float32) } }
        let joined = Tensor.concatenated(parts)
        for part in parts { part.dropMappedPages() }
        return backend.linearWeights(
            joined, bias: biases.count == names.count ? Tensor.concatenated(biases) : nil,
            dtype: dtype, precision: precision)
    }

    /// A linear layer; `dtype` nil means the working dtype. The bias is used when the checkpoint has one.
    func linear(_ name: String, dtype override: DType? = nil) throws(Failure) -> any LinearWeights {
        backend.linearWeights(try weight(name), bias: try bias(name), dtype: override ?? dtype)
    }

    /// A layer whose weight is stored as a convolution but acts as `[outputs, everything else]`.
    func flattenedLinear(_ name: String, dtype override: DType? = nil) throws(Failure) -> any LinearWeights {
        let weight = try weight(name)
        let flat = weight.reshaped([weight.shape[0], weight.count / max(weight.shape[0], 1)])
        return backend.linearWeights(flat, bias: try bias(name), dtype: override ?? dtype)
    }

    /// A convolution; a two-dimensional kernel acts on each frame by itself.
    func convolution(_ name: String) throws(Failure) -> any ConvolutionWeights {
        backend.convolutionWeights(try kernel(name), bias: try bias(name), dtype: dtype)
    }

    /// A 3×3 convolution of each frame after an enlargement.
    func enlargingConvolution(_ name: String) throws(Failure) -> any ConvolutionWeights {
        backend.enlargingWeights(try kernel(name), bias: try bias(name), dtype: dtype)
    }

    /// A 3×3 convolution of each frame with stride 2.
    func halvingConvolution(_ name: String) throws(Failure) -> any ConvolutionWeights {
        backend.halvingWeights(try kernel(name), bias: try bias(name), dtype: dtype)
    }

    /// A convolution's weight with all three kernel axes.
    private func kernel(_ name: String) throws(Failure) -> Tensor {
        let weight = try weights.tensor("\(name).weight")
        guard weight.shape.count == 4 else { return weight }
        return weight.reshaped(Array(weight.shape[..<2]) + [1] + Array(weight.shape[2...]))
    }

    /// A small parameter in float32.
    func vector(_ key: String) throws(Failure) -> Tensor {
        backend.converted(try weights.tensor(key), to: .float32)
    }

    func norm(_ name: String, affine: Bool = true) throws(Failure) -> NormWeights {
        guard affine else { return NormWeights(weight: nil, bias: nil) }
        return NormWeights(weight: try vector("\(name).weight"), bias: try vector("\(name).bias"))
    }

    /// The weight of a linear layer as the adapters make it; of a convolution that one changes, flattened.
    private func weight(_ name: String) throws(Failure) -> Tensor {
        adapters.merged(try weights.tensor("\(name).weight"), layer: name, backend: backend)
    }

    private func bias(_ name: String) throws(Failure) -> Tensor? {
        let stored = weights.contains("\(name).bias") ? try weights.tensor("\(name).bias") : nil
        return adapters.mergedBias(stored, layer: name)
    }
}
