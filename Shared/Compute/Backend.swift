package import Tensor

/// What follows a matrix product before its result is stored.
package enum Activation: Sendable { case none, silu, geluTanh }

/// Weights of a `Linear` layer in the form the backend wants; `[outputs, inputs]` in the checkpoint.
package protocol LinearWeights: AnyObject, Sendable {
    var inputs: Int { get }
    var outputs: Int { get }
}

/// Weights of a convolution in the form the backend wants; `[outputs, inputs, kt, kh, kw]` in the checkpoint.
package protocol ConvolutionWeights: AnyObject, Sendable {
    var inputs: Int { get }
    var outputs: Int { get }
    /// `[kt, kh, kw]`
    var kernel: [Int] { get }
}

/// The arithmetic a network needs, on one kind of device.
///
/// Activations are float32 or bfloat16; an operation works in the dtype of its input and accumulates in float32 (products of int8 weights in int32).
/// Small parameters (norm weights, modulation vectors, tables) are always float32.
/// Token activations are `[rows, channels]`; VAE activations are channels-last `[T, H, W, C]`.
/// Shape mismatches are programmer errors and trap; every tensor that came from outside is checked before it gets here.
package protocol Backend: Sendable {
    /// `cpu (avx512bf16, 2 threads)` or the like, for logs.
    var description: String { get }
    /// Identifies the arithmetic for bit-exact resume: instruction set and kernel generation.
    var numerics: String { get }

    // MARK: Weights

    /// Packs `[outputs, inputs]` weights (any floating dtype) and an optional `[outputs]` bias for products in `dtype`.
    func linearWeights(
        _ weight: Tensor, bias: Tensor?, dtype: DType, precision: ProductPrecision
    ) -> any LinearWeights
    /// Packs `[outputs, inputs, kt, kh, kw]` weights and an `[outputs]` bias for convolutions in `dtype`.
    func convolutionWeights(_ weight: Tensor, bias: Tensor?, dtype: DType) -> any ConvolutionWeights

    // MARK: Tokens

    /// `activation(x Wᵀ + b)`: `[M, inputs]` → `[M, outputs]`.
    func linear(_ x: Tensor, _ weights: any LinearWeights, activation: Activation) -> Tensor
    /// `x Wᵀ + b` cut into `norms.count` equal sections of whole heads, each a dense `[M, outputs / norms.count]`; a
    /// section with a norm is normalised head by head, and rotated. Queries, keys and values are one product.
    func headSections(_ x: Tensor, _ weights: any LinearWeights, heads: Int, norms: [HeadNorm?]) -> [Tensor]
    /// `target[r] += gate(r) ⊙ (x Wᵀ + b)`: the rows of x belong to the rows of the spans, one span after the other.
    func addLinear(_ x: Tensor, _ weights: any LinearWeights, to target: inout Tensor, spans: [GateSpan])
    /// LayerNorm of the rows of the spans, one span after the other, each with its own modulation.
    func modulatedNorm(_ x: Tensor, spans: [NormSpan], weight: Tensor?, bias: Tensor?, epsilon: Float) -> Tensor
    /// LayerNorm over the last axis, then optionally `· (1 + scale) + shift`. All vectors `[D]` float32.
    func layerNorm(
        _ x: Tensor, weight: Tensor?, bias: Tensor?, epsilon: Float, scale: Tensor?, shift: Tensor?
    ) -> Tensor
    /// `weight ⊙ x · rsqrt(mean(x²) + ε)` over the last axis (T5).
    func rmsNorm(_ x: Tensor, weight: Tensor, epsilon: Float) -> Tensor
    /// `softmax(q kᵀ · scale + bias) v` per head; q `[Mq, heads·headSize]`, k and v `[Mk, heads·headSize]`,
    /// bias `[heads, Mq, Mk]` float32 or nil. No mask. → `[Mq, heads·headSize]`.
    ///
    /// With several `sequences` the rows of each follow one another, and a row attends to its own sequence. Only the
    /// queries from `firstQuery` of a sequence on are computed, and only they are in the result.
    ///
    /// With `precision` int8 and no bias both products may be of int8, where the backend has them for these heads.
    func attention(
        _ q: Tensor, _ k: Tensor, _ v: Tensor, heads: Int, scale: Float, bias: Tensor?, sequences: Int,
        firstQuery: Int, precision: ProductPrecision
    ) -> Tensor
    /// `x += gate ⊙ y` on rows; gate `[D]` float32, or nil for a plain residual.
    func addGated(_ x: inout Tensor, _ y: Tensor, gate: Tensor?)
    /// `a ⊙ b` elementwise.
    func multiply(_ a: Tensor, _ b: Tensor) -> Tensor
    func silu(_ x: Tensor) -> Tensor
    /// Rows of `table` `[vocabulary, D]` (any floating dtype) for the ids → `[ids.count, D]` in `dtype`.
    func embedding(_ ids: [Int32], table: Tensor, dtype: DType) -> Tensor

    // MARK: Video activations: frames [H, W, C]

    /// Convolution with stride 1, zero padding `(kh−1)/2, (kw−1)/2` in space and none in time: T + kt − 1 frames of
    /// `[H, W, Ci]` → T frames `[H, W, Co]`. What `added` names joins the sums. Rows in the margins are read and not
    /// computed: those of the result are uninitialised, for the neighbours' rows.
    func convolution(
        _ frames: [Tensor], _ weights: any ConvolutionWeights, added: [Tensor]?, margins: RowMargins
    ) -> [Tensor]
    /// Packs `[outputs, inputs, 1, 3, 3]` weights for `enlargedConvolution`.
    func enlargingWeights(_ weight: Tensor, bias: Tensor?, dtype: DType) -> any ConvolutionWeights
    /// Nearest enlargement of each frame to twice its height and width followed by a 3×3 convolution, as four 2×2
    /// convolutions of the frame as it is: `[H, W, Ci]` → `[2H, 2W, Co]`. Margins stay as high as they are.
    func enlargedConvolution(
        _ frames: [Tensor], _ weights: any ConvolutionWeights, margins: RowMargins
    ) -> [Tensor]
    /// Packs `[outputs, inputs, 1, 3, 3]` weights for `halvedConvolution`.
    func halvingWeights(_ weight: Tensor, bias: Tensor?, dtype: DType) -> any ConvolutionWeights
    /// 3×3 convolution with stride 2 of each frame, one row of zeros below it and one column to its right:
    /// `[H, W, Ci]` → `[H / 2, W / 2, Co]`.
    func halvedConvolution(_ frames: [Tensor], _ weights: any ConvolutionWeights) -> [Tensor]
    /// `(a + b) / 2` elementwise.
    func mean(_ a: Tensor, _ b: Tensor) -> Tensor
    /// What GroupNorm over (C/groups, T, H, W) of all frames needs, without the rows in the margins.
    func groupSums(_ frames: [Tensor], groups: Int, margins: RowMargins) -> GroupSums
    /// `x · factor + offset`, then optionally SiLU.
    func applied(_ affine: ChannelAffine, to frame: Tensor, silu: Bool) -> Tensor
    /// The decoder's spatial norm of a frame: `(x · factor + offset) · scale + shift`, then optionally SiLU. `scale` and
    /// `shift` are `[hz, wz, C]` at latent resolution, read at `⌊y·hz/H⌋, ⌊x·wz/W⌋`, where row y of the image of H rows
    /// that they cover is row `y − rows.first` of the frame.
    func applied(
        _ affine: ChannelAffine, to frame: Tensor, scale: Tensor, shift: Tensor, silu: Bool, rows: ImageRows
    ) -> Tensor

    // MARK: Any tensor

    func converted(_ x: Tensor, to dtype: DType) -> Tensor
    /// `result[i0, i1, …]` runs over `x` with its axes in the order `axes` (as numpy's `transpose`).
    func permuted(_ x: Tensor, axes: [Int]) -> Tensor
}

/// LayerNorm of heads, and the rotation that follows it.
package struct HeadNorm: Sendable {
    /// `[headSize]` float32
    package let weight: Tensor
    package let bias: Tensor
    package let epsilon: Float
    package let rotary: Rotary?

    package init(weight: Tensor, bias: Tensor, epsilon: Float, rotary: Rotary?) {
        self.weight = weight
        self.bias = bias
        self.epsilon = epsilon
        self.rotary = rotary
    }
}

/// RoPE on the rows of sequences of `period` rows, from row `start` of each on; pairs are interleaved (x0, x1).
package struct Rotary: Sendable {
    /// `[period − start, headSize]` float32
    package let cosines: Tensor
    package let sines: Tensor
    package let start: Int
    package let period: Int

    package init(cosines: Tensor, sines: Tensor, start: Int, period: Int) {
        self.cosines = cosines
        self.sines = sines
        self.start = start
        self.period = period
    }
}

/// Rows of a residual stream that receive a layer's output through one gate (`[D]` float32; nil: as it is).
package struct GateSpan: Sendable {
    package let rows: Range<Int>
    package let gate: Tensor?

    package init(rows: Range<Int>, gate: Tensor?) {
        self.rows = rows
        self.gate = gate
    }
}

/// Rows that one modulation `· (1 + scale) + shift` follows (`[D]` float32).
package struct NormSpan: Sendable {
    package let rows: Range<Int>
    package let scale: Tensor
    package let shift: Tensor

    package init(rows: Range<Int>, scale: Tensor, shift: Tensor) {
        self.rows = rows
        self.scale = scale
        self.shift = shift
    }
}

extension Backend {
    package func linearWeights(_ weight: Tensor, bias: Tensor?, dtype: DType) -> any LinearWeights {
        linearWeights(weight, bias: bias, dtype: dtype, precision: .activation)
    }

    package func attention(
        _ q: Tensor, _ k: Tensor, _ v: Tensor, heads: Int, scale: Float, bias: Tensor?
    ) -> Tensor {
        attention(q, k, v, heads: heads, scale: scale, bias: bias, sequences: 1, firstQuery: 0, precision: .activation)
    }

    package func convolution(
        _ frames: [Tensor], _ weights: any ConvolutionWeights, added: [Tensor]?
    ) -> [Tensor] {
        convolution(frames, weights, added: added, margins: .none)
    }

    package func enlargedConvolution(_ frames: [Tensor], _ weights: any ConvolutionWeights) -> [Tensor] {
        enlargedConvolution(frames, weights, margins: .none)
    }

    package func applied(
        _ affine: ChannelAffine, to frame: Tensor, scale: Tensor, shift: Tensor, silu: Bool
    ) -> Tensor {
        applied(
            affine, to: frame, scale: scale, shift: shift, silu: silu,
            rows: ImageRows(first: 0, height: frame.shape[0]))
    }

    /// GroupNorm over (C/groups, T, H, W) of all frames as a factor and an offset a channel.
    package func groupAffine(
        _ frames: [Tensor], groups: Int, epsilon: Float, weight: Tensor, bias: Tensor
    ) -> ChannelAffine {
        ChannelAffine(
            groupSums(frames, groups: groups, margins: .none), epsilon: epsilon, weight: weight, bias: bias)
    }
}

extension Tensor {
    /// The slices along the first axis, each without it, sharing the storage.
    package var slices: [Tensor] {
        (0..<shape[0]).map { rows($0..<($0 + 1)).reshaped(Array(shape[1...])) }
    }

    /// Tensors of equal shape along a new first axis.
    package static func stacked(_ parts: [Tensor]) -> Tensor {
        concatenated(parts.map { $0.reshaped([1] + $0.shape) })
    }
}
