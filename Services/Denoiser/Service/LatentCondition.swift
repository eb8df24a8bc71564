import Diffusion
import Failure
import Request
import Tensor

/// The latents that a clip begins with.
struct LatentCondition: Sendable {
    let kind: Conditioning
    /// `[1, F or 1, C, h, w]` float32, scaled for the diffusion process.
    let latents: Tensor

    /// What joins the channels of latents of this size, `[F, C, h, w]`: frames beyond those of an image are zero.
    /// Nil for a clip that is itself denoised.
    func joined(_ size: LatentSize) -> Tensor? {
        guard kind.joinsChannels else { return nil }
        let frames = latents.reshaped(Array(latents.shape.dropFirst())), missing = size.frames - frames.shape[0]
        guard missing > 0 else { return frames }
        return Tensor.concatenated([frames, Tensor(zeros: [missing] + frames.shape.dropFirst())])
    }

    /// The latents that the first step denoises, from noise as the seed or the user gives it. The encoder has drawn the
    /// seed's first normals where the condition was sampled.
    static func start(
        _ condition: LatentCondition?, noise given: Tensor?, shape: [Int], sampler: Sampler,
        generator: inout TorchGenerator
    ) throws(Failure) -> Tensor {
        if let condition, condition.kind.isSampled { generator.skipNormals(count: condition.latents.count) }
        let noise = given ?? generator.randn(shape: shape)
        guard let condition, condition.kind == .video else { return noise }
        return try sampler.schedule.addNoise(noise, to: condition.latents, timestep: sampler.timesteps[0])
    }
}
