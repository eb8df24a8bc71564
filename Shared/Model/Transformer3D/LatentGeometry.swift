package import Checkpoint
package import Failure

/// How a clip of latents divides into tokens.
package struct LatentGeometry: Sendable, Hashable {
    /// Latent frames, height and width: pixels / 8, frames / 4.
    package let frames: Int
    package let height: Int
    package let width: Int
    package let patchSize: Int
    /// Latent frames of a patch: 1 in CogVideoX 1.0, 2 in 1.5.
    package let patchFrames: Int

    /// The token grid; tokens run over it with time slowest and x fastest.
    package var gridFrames: Int { frames / patchFrames }
    package var gridHeight: Int { height / patchSize }
    package var gridWidth: Int { width / patchSize }
    package var tokenCount: Int { gridFrames * gridHeight * gridWidth }
    /// Elements of one channel in one patch.
    package var patchVolume: Int { patchFrames * patchSize * patchSize }

    private static let extentLimit = 1 << 14

    /// Checks that the model can make latents `[frames, channels, height, width]`.
    ///
    /// Fails with `size_unsupported` when height or width is no multiple of the patch, or is not the native one of a
    /// model with learned positions; with `frame_count_unsupported` when the patches do not divide the frames, or the
    /// count is not the native one of a model with learned positions. (diffusers puts sinusoids in the place of learned
    /// positions for other frame counts, which spoils the clip.)
    package init(config: Transformer3DConfig, frames: Int, height: Int, width: Int) throws(Failure) {
        self.frames = frames
        self.height = height
        self.width = width
        patchSize = config.patchSize
        patchFrames = config.patchSizeT ?? 1
        let sizes = 1...Self.extentLimit
        guard sizes.contains(height), sizes.contains(width), height % patchSize == 0, width % patchSize == 0 else {
            throw Failure(
                "size_unsupported",
                "Latents of \(width)×\(height) do not divide into patches of \(patchSize)×\(patchSize).", field: "size",
                remedy: "Choose a width and height that are multiples of \(8 * patchSize) pixels.")
        }
        guard sizes.contains(frames), frames % patchFrames == 0 else {
            throw Failure(
                "frame_count_unsupported", "\(frames) latent frames do not divide into patches of \(patchFrames).",
                field: "num_frames", remedy: "Pad the latents to a multiple of \(patchFrames) frames.")
        }
        guard config.useLearnedPositionalEmbeddings else { return }
        guard height == config.sampleHeight, width == config.sampleWidth else {
            throw Failure(
                "size_unsupported",
                "Latents of \(width)×\(height) do not fit the learned positions of \(config.sampleWidth)×"
                    + "\(config.sampleHeight).",
                field: "size", remedy: "Choose \(8 * config.sampleWidth)×\(8 * config.sampleHeight) pixels.")
        }
        guard frames == config.sampleLatentFrames else {
            throw Failure(
                "frame_count_unsupported",
                "\(frames) latent frames do not fit the learned positions of \(config.sampleLatentFrames).",
                field: "num_frames", remedy: "Choose \(config.sampleFrames) frames.")
        }
    }
}
