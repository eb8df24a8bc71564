import Checkpoint
import Model
import Request
import Stage
import Tensor

/// The extents of a job's latents `[1, frames, channels, height, width]`.
struct LatentSize: Sendable, Hashable {
    var frames: Int
    var channels: Int
    var height: Int
    var width: Int

    init(frames: Int, channels: Int, height: Int, width: Int) {
        self.frames = frames
        self.channels = channels
        self.height = height
        self.width = width
    }

    /// The latents that diffusers' pipeline makes for this request: CogVideoX 1.5 pads the frames to whole patches.
    init(_ parameters: DenoiseParameters, folder: ModelFolder) {
        let scale = folder.vae.spatialCompressionRatio
        let patchFrames = folder.transformer.patchSizeT ?? 1
        let frames = (max(parameters.numFrames, 1) - 1) / folder.vae.temporalCompressionRatio + 1
        self.init(
            frames: (frames + patchFrames - 1) / patchFrames * patchFrames, channels: folder.transformer.outChannels,
            height: parameters.height / scale, width: parameters.width / scale)
    }

    /// Frames at the front that only fill a patch (CogVideoX 1.5).
    func paddingFrames(_ parameters: DenoiseParameters, _ folder: ModelFolder) -> Int {
        frames - ((max(parameters.numFrames, 1) - 1) / folder.vae.temporalCompressionRatio + 1)
    }

    var shape: [Int] { [1, frames, channels, height, width] }

    var expectation: TensorExpectation {
        TensorExpectation(
            [.float32], [1, .exactly(frames), .exactly(channels), .exactly(height), .exactly(width)])
    }

    /// An estimate of what one job needs beside the weights: about twelve token activations (residual stream, queries,
    /// keys, values, attention, the four-fold feed-forward layer) and the modulation vectors of every step.
    func activationBytes(_ config: Transformer3DConfig, prompts: Int, steps: Int, elementBytes: Int) -> Int {
        let tokens = tokenCount(config)
        let modulations = 12 * config.numLayers * config.innerDim * steps * 4
        return prompts * tokens * config.innerDim * 12 * elementBytes + modulations
    }

    /// What the job's step cache keeps.
    func stepCacheBytes(_ parameters: DenoiseParameters, _ config: Transformer3DConfig) -> Int {
        parameters.transformerCache?.keptBytes(
            tokens: tokenCount(config), prompts: parameters.guidanceScale > 1 ? 2 : 1, width: config.innerDim,
            layers: config.numLayers, elementBytes: parameters.dtype.dtype.byteCount) ?? 0
    }

    /// Rows of one prompt: text and patches.
    private func tokenCount(_ config: Transformer3DConfig) -> Int {
        let patch = config.patchSize * config.patchSize * (config.patchSizeT ?? 1)
        return frames * height * width / patch + config.maxTextSeqLength
    }
}
