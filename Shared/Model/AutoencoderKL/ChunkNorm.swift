import Checkpoint
import Compute
import Failure
import Tensor

/// A chunk of latents as the decoder's norms read it: one row of channels a position, float32.
struct LatentChunk {
    /// `[frames · height · width, channels]`
    let rows: Tensor
    let frames: Int
    let height: Int
    let width: Int

    /// For each of `count` frames of an activation, the latent frame that conditions it: the nearest, except that the
    /// first frame of an odd count has the first latent frame for itself.
    func frameMap(count: Int) -> [Int] {
        if count > 1 && count % 2 == 1 {
            return [0] + (0..<(count - 1)).map { 1 + $0 * (frames - 1) / (count - 1) }
        }
        return (0..<count).map { $0 * frames / count }
    }

    /// Where the rows of an activation lie in the image that this chunk, enlarged to its size, would be. Both have the same
    /// margins, and one row of latents is as high as many of the activation.
    func imageRows(of frame: Tensor, margins: RowMargins) -> ImageRows {
        let scale = (frame.shape[0] - margins.count) / (height - margins.count)
        return ImageRows(first: margins.top * (scale - 1), height: height * scale)
    }
}

/// GroupNorm over a temporal chunk. In the decoder scale and shift come from the latents too (`CogVideoXSpatialNorm3D`).
///
/// The reference enlarges the latents and then projects them; a 1×1×1 projection commutes with nearest-neighbour
/// resizing, so here it is done at latent resolution.
struct ChunkNorm: Sendable {
    private let weight: Tensor
    private let bias: Tensor
    private let groups: Int
    private let condition: (scale: any LinearWeights, shift: any LinearWeights)?

    private static let epsilon: Float = 1e-6

    /// - Parameter latentChannels: of the latents that scale and shift come from; nil without them.
    static func expect(_ expected: inout ExpectedWeights, _ name: String, channels: Int, latentChannels: Int?) {
        guard let latentChannels else { return expected.norm(name, width: channels) }
        expected.norm("\(name).norm_layer", width: channels)
        for part in ["conv_y", "conv_b"] {
            expected.convolution(
                "\(name).\(part).conv", inputs: latentChannels, outputs: channels, kernel: [1, 1, 1])
        }
    }

    init(_ loader: LayerLoader, _ name: String, groups: Int, isConditioned: Bool) throws(Failure) {
        let norm = isConditioned ? "\(name).norm_layer" : name
        weight = try loader.vector("\(norm).weight")
        bias = try loader.vector("\(norm).bias")
        condition =
            isConditioned
            ? (
                try loader.flattenedLinear("\(name).conv_y.conv", dtype: .float32),
                try loader.flattenedLinear("\(name).conv_b.conv", dtype: .float32)
            ) : nil
        self.groups = groups
    }

    /// The norm of an activation, ready to be applied frame by frame; `latents` are read when the norm is conditioned.
    /// Statistics are those of the whole image, whoever computes its rows.
    func prepared(
        _ frames: [Tensor], latents: LatentChunk?, slab: Slab, backend: any Backend
    ) throws(Failure) -> PreparedNorm {
        precondition((latents == nil) == (condition == nil), "latents for a norm without a condition, or none for one")
        let sums = try slab.reduce(backend.groupSums(frames, groups: groups, margins: slab.margins))
        let affine = ChannelAffine(sums, epsilon: Self.epsilon, weight: weight, bias: bias)
        guard let latents, let condition else { return PreparedNorm(affine: affine, condition: nil) }
        let shape = [latents.frames, latents.height, latents.width, frames[0].shape[2]]
        return PreparedNorm(
            affine: affine,
            condition: PreparedNorm.Condition(
                scales: backend.linear(latents.rows, condition.scale, activation: .none).reshaped(shape).slices,
                shifts: backend.linear(latents.rows, condition.shift, activation: .none).reshaped(shape).slices,
                frameMap: latents.frameMap(count: frames.count),
                rows: latents.imageRows(of: frames[0], margins: slab.margins)))
    }
}

/// A norm whose statistics are known.
struct PreparedNorm {
    struct Condition {
        /// `[height, width, C]` at latent resolution, a latent frame each.
        let scales: [Tensor]
        let shifts: [Tensor]
        let frameMap: [Int]
        let rows: ImageRows
    }

    let affine: ChannelAffine
    let condition: Condition?

    /// Frame `index` of the activation, normalised and followed by SiLU.
    func apply(to frame: Tensor, index: Int, backend: any Backend) -> Tensor {
        guard let condition else { return backend.applied(affine, to: frame, silu: true) }
        let latent = condition.frameMap[index]
        return backend.applied(
            affine, to: frame, scale: condition.scales[latent], shift: condition.shifts[latent], silu: true,
            rows: condition.rows)
    }
}
