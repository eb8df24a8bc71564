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
/// Activations are float32 or bfloat16; an operation works in the dtype of its input and accumulates in float32.
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
    func linearWeights(_ weight: Tensor, bias: Tensor?, dtype: DType) -> any LinearWeights
    /// Packs `[outputs, inputs, kt, kh, kw]` weights and an `[outputs]` bias for convolutions in `dtype`.
    func convolutionWeights(_ weight: Tensor, bias: Tensor?, dtype: DType) -> any ConvolutionWeights

    // MARK: Tokens

    /// `activation(x Wᵀ + b)`: `[M, inputs]` → `[M, outputs]`.
    func linear(_ x: Tensor, _ weights: any LinearWeights, activation: Activation) -> Tensor
    /// LayerNorm over the last axis, then optionally `· (1 + scale) + shift`. All vectors `[D]` float32.
    func layerNorm(
        _ x: Tensor, weight: Tensor?, bias: Tensor?, epsilon: Float, scale: Tensor?, shift: Tensor?
    ) -> Tensor
    /// `weight ⊙ x · rsqrt(mean(x²) + ε)` over the last axis (T5).
    func rmsNorm(_ x: Tensor, weight: Tensor, epsilon: Float) -> Tensor
    /// LayerNorm over each head of `[M, heads · headSize]`, then RoPE on rows from `rotaryStart` on.
    /// `cosines` and `sines` are `[M − rotaryStart, headSize]` float32 or nil; pairs are interleaved (x0, x1).
    func normalizeHeads(
        _ x: Tensor, heads: Int, weight: Tensor, bias: Tensor, epsilon: Float,
        cosines: Tensor?, sines: Tensor?, rotaryStart: Int
    ) -> Tensor
    /// `softmax(q kᵀ · scale + bias) v` per head; q `[Mq, heads·headSize]`, k and v `[Mk, heads·headSize]`,
    /// bias `[heads, Mq, Mk]` float32 or nil. No mask. → `[Mq, heads·headSize]`.
    func attention(_ q: Tensor, _ k: Tensor, _ v: Tensor, heads: Int, scale: Float, bias: Tensor?) -> Tensor
    /// `x += gate ⊙ y` on rows; gate `[D]` float32, or nil for a plain residual.
    func addGated(_ x: inout Tensor, _ y: Tensor, gate: Tensor?)
    /// `a ⊙ b` elementwise.
    func multiply(_ a: Tensor, _ b: Tensor) -> Tensor
    func silu(_ x: Tensor) -> Tensor
    /// Rows of `table` `[vocabulary, D]` (any floating dtype) for the ids → `[ids.count, D]` in `dtype`.
    func embedding(_ ids: [Int32], table: Tensor, dtype: DType) -> Tensor

    // MARK: Video activations [T, H, W, C]

    /// Convolution with stride 1, zero padding `(kh−1)/2, (kw−1)/2` in space and none in time:
    /// `[T + kt − 1, H, W, Ci]` → `[T, H, W, Co]`. With `residual` `[T, H, W, Co]`, it is added to the result.
    func convolution(_ x: Tensor, _ weights: any ConvolutionWeights, residual: Tensor?) -> Tensor
    /// GroupNorm over (C/groups, T, H, W) of the whole tensor, affine, optionally followed by SiLU.
    func groupNorm(_ x: Tensor, groups: Int, epsilon: Float, weight: Tensor, bias: Tensor, silu: Bool) -> Tensor
    /// The decoder's spatial norm: `GroupNorm(x) · scale + shift`, then optionally SiLU. `scale` and `shift` are
    /// `[Tz, hz, wz, C]` at latent resolution, read at frame `frameMap[t]` and at `⌊y·hz/H⌋, ⌊x·wz/W⌋`.
    func spatialNorm(
        _ x: Tensor, groups: Int, epsilon: Float, weight: Tensor, bias: Tensor,
        scale: Tensor, shift: Tensor, frameMap: [Int], silu: Bool
    ) -> Tensor
    /// Nearest upsampling: result frame i is `frames[i]` of the input, doubled in height and width.
    func upsampled(_ x: Tensor, frames: [Int]) -> Tensor

    // MARK: Any tensor

    func converted(_ x: Tensor, to dtype: DType) -> Tensor
    /// `result[i0, i1, …]` runs over `x` with its axes in the order `axes` (as numpy's `transpose`).
    func permuted(_ x: Tensor, axes: [Int]) -> Tensor
}
