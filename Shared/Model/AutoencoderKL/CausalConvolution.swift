import Compute
import Failure
import Tensor

/// The last two input frames of every causal convolution, carried from one temporal chunk to the next.
struct ConvolutionCaches {
    fileprivate var frames: [String: [Tensor]] = [:]
}

/// A 3×3×3 convolution that sees no later frame (`CogVideoXCausalConv3d`).
///
/// Two frames stand before each chunk: the first frame twice, or the last two of the chunk before.
struct CausalConvolution: Sendable {
    private let name: String
    private let weights: any ConvolutionWeights

    private static let history = 2
    /// What the frames that are convolved at once may take.
    private static let groupBytes = 128 << 20

    static func expect(_ expected: inout ExpectedWeights, _ name: String, inputs: Int, outputs: Int) {
        expected.convolution("\(name).conv", inputs: inputs, outputs: outputs, kernel: [3, 3, 3])
    }

    init(_ loader: LayerLoader, _ name: String) throws(Failure) {
        self.name = name
        weights = try loader.convolution("\(name).conv")
    }

    /// T frames `[H, W, inputs]` → T frames `[H, W, outputs]`, with what `added` gives for each joining its sum.
    ///
    /// `count` frames are asked of `frame` in order, a group at a time, and let go when no later frame reads them: the
    /// whole input never exists at once.
    func callAsFunction(
        count: Int, caches: inout ConvolutionCaches, backend: any Backend,
        added: (Range<Int>) -> ConvolutionAddition? = { _ in nil }, frame: (Int) -> Tensor
    ) -> [Tensor] {
        var results: [Tensor] = []
        var window: [Tensor] = caches.frames[name] ?? []
        caches.frames[name] = nil
        while results.count < count {
            let first = results.count
            var group = frame(first)
            let size = max(1, min(count - first, Self.groupBytes / max(group.byteCount, 1)))
            if window.isEmpty { window = Array(repeating: group, count: Self.history) }
            for index in first..<first + size {
                if index > first { group = frame(index) }
                window.append(group)
            }
            results += backend.convolution(window, weights, added: added(first..<first + size))
            window.removeFirst(window.count - Self.history)
        }
        caches.frames[name] = window
        return results
    }
}
