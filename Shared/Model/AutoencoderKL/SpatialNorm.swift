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
}

/// GroupNorm whose scale and shift come from the latents (`CogVideoXSpatialNorm3D`).
///
/// The reference enlarges the latents and then projects them; a 1×1×1 projection commutes with nearest-neighbour
/// resizing, so here it is done at latent resolution.
struct SpatialNorm: Sendable {
    private let weight: Tensor
    private let bias: Tensor
    private let scale: any LinearWeights
    private let shift: any LinearWeights
    private let groups: Int

    private static let epsilon: Float = 1e-6

    static func expect(
        _ expected: inout ExpectedWeights, _ name: String, channels: Int, latentChannels: Int
    ) {
        expected.norm("\(name).norm_layer", width: channels)
        for part in ["conv_y", "conv_b"] {
            expected.convolution(
                "\(name).\(part).conv", inputs: latentChannels, outputs: channels, kernel: [1, 1, 1])
        }
    }

    init(_ loader: LayerLoader, _ name: String, groups: Int) throws(Failure) {
        weight = try loader.vector("\(name).norm_layer.weight")
        bias = try loader.vector("\(name).norm_layer.bias")
        scale = try loader.flattenedLinear("\(name).conv_y.conv", dtype: .float32)
        shift = try loader.flattenedLinear("\(name).conv_b.conv", dtype: .float32)
        self.groups = groups
    }

    /// The norm of an activation, ready to be applied frame by frame.
    func prepared(_ frames: [Tensor], latents: LatentChunk, backend: any Backend) -> PreparedNorm {
        let shape = [latents.frames, latents.height, latents.width, frames[0].shape[2]]
        return PreparedNorm(
            affine: backend.groupAffine(
                frames, groups: groups, epsilon: Self.epsilon, weight: weight, bias: bias),
            scales: backend.linear(latents.rows, scale, activation: .none).reshaped(shape).slices,
            shifts: backend.linear(latents.rows, shift, activation: .none).reshaped(shape).slices,
            frameMap: latents.frameMap(count: frames.count))
    }
}

/// A spatial norm whose statistics are known.
struct PreparedNorm {
    let affine: ChannelAffine
    /// `[height, width, C]` at latent resolution, a latent frame each.
    let scales: [Tensor]
    let shifts: [Tensor]
    let frameMap: [Int]

    /// Frame `index` of the activation, normalised and followed by SiLU.
    func apply(to frame: Tensor, index: Int, backend: any Backend) -> Tensor {
        let latent = frameMap[index]
        return backend.applied(affine, to: frame, scale: scales[latent], shift: shifts[latent], silu: true)
    }
}
