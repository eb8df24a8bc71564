import Compute
import Failure
import Tensor

/// The last two input frames of every causal convolution, carried from one temporal chunk to the next.
struct ConvolutionCaches {
    fileprivate var frames: [String: Tensor] = [:]
}

/// A 3×3×3 convolution that sees no later frame (`CogVideoXCausalConv3d`).
///
/// Two frames stand before each chunk: the first frame twice, or the last two of the chunk before.
struct CausalConvolution: Sendable {
    private let name: String
    private let weights: any ConvolutionWeights

    private static let history = 2

    static func expect(_ expected: inout ExpectedWeights, _ name: String, inputs: Int, outputs: Int) {
        expected.convolution("\(name).conv", inputs: inputs, outputs: outputs, kernel: [3, 3, 3])
    }

    init(_ loader: LayerLoader, _ name: String) throws(Failure) {
        self.name = name
        weights = try loader.convolution("\(name).conv")
    }

    /// `[T, H, W, inputs]` → `[T, H, W, outputs]`, plus `residual` of the result's shape.
    func callAsFunction(
        _ x: consuming Tensor, residual: Tensor? = nil, caches: inout ConvolutionCaches, backend: any Backend
    ) -> Tensor {
        let first = x.rows(0..<1)
        let before = caches.frames[name] ?? Tensor.concatenated(Array(repeating: first, count: Self.history))
        let padded = Tensor.concatenated([before, x])
        let count = padded.shape[0]
        // A copy: a slice would keep the whole activation alive until the next chunk.
        caches.frames[name] = padded.rows((count - Self.history)..<count).copied()
        return backend.convolution(padded, weights, residual: residual)
    }
}
