import Checkpoint
import Compute
import Failure
import Tensor

/// Latents and text features to tokens (`CogVideoXPatchEmbed`).
struct PatchEmbedding: Sendable {
    private let projection: any LinearWeights
    private let textProjection: any LinearWeights
    /// `[maxTextSeqLength + native tokens, width]`, only of CogVideoX-5b-I2V.
    private let learnedPositions: Tensor?
    private let config: Transformer3DConfig
    private let dtype: DType

    static let learnedPositionsKey = "patch_embed.pos_embedding"

    static func expect(_ expected: inout ExpectedWeights, config: Transformer3DConfig) {
        let patch = config.patchSize
        if let frames = config.patchSizeT {
            expected.linear(
                "patch_embed.proj", inputs: config.inChannels * frames * patch * patch, outputs: config.innerDim)
        } else {
            expected.convolution(
                "patch_embed.proj", inputs: config.inChannels, outputs: config.innerDim, kernel: [patch, patch],
                bias: config.patchBias)
        }
        expected.linear("patch_embed.text_proj", inputs: config.textEmbedDim, outputs: config.innerDim)
        if config.useLearnedPositionalEmbeddings {
            let tokens =
                config.sampleLatentFrames * (config.sampleHeight / patch) * (config.sampleWidth / patch)
            expected.tensor(learnedPositionsKey, [1, config.maxTextSeqLength + tokens, config.innerDim])
        }
    }

    init(_ loader: LayerLoader, config: Transformer3DConfig) throws(Failure) {
        projection = try loader.flattenedLinear("patch_embed.proj")
        textProjection = try loader.linear("patch_embed.text_proj")
        if config.useLearnedPositionalEmbeddings {
            let table = try loader.weights.tensor(Self.learnedPositionsKey)
            learnedPositions = loader.backend.converted(table, to: loader.dtype)
                .reshaped([table.shape[1], table.shape[2]])
        } else {
            learnedPositions = nil
        }
        self.config = config
        dtype = loader.dtype
    }

    /// Text features `[length, textEmbedDim]` to tokens `[length, width]`.
    func text(_ features: Tensor, backend: any Backend) -> Tensor {
        var tokens = backend.linear(backend.converted(features, to: dtype), textProjection, activation: .none)
        if let learnedPositions {
            backend.addGated(&tokens, learnedPositions.rows(0..<tokens.shape[0]), gate: nil)
        }
        return tokens
    }

    /// What is added to the video tokens, `[tokens, width]` in the working dtype; nil when positions are rotary alone.
    func videoPositions(_ geometry: LatentGeometry, backend: any Backend) -> Tensor? {
        if let learnedPositions {
            return learnedPositions.rows(config.maxTextSeqLength..<learnedPositions.shape[0])
        }
        if config.useRotaryPositionalEmbeddings { return nil }
        return backend.converted(SinusoidalPositions.table(config: config, geometry: geometry), to: dtype)
    }

    /// Latents `[frames, channels, height, width]` to tokens `[tokens, width]`.
    ///
    /// The features of a patch run over channel, frame, y, x: the order of a convolution kernel's weights.
    func video(_ latents: Tensor, geometry: LatentGeometry, positions: Tensor?, backend: any Backend) -> Tensor {
        let split = backend.converted(latents, to: dtype).reshaped([
            geometry.gridFrames, geometry.patchFrames, config.inChannels, geometry.gridHeight, geometry.patchSize,
            geometry.gridWidth, geometry.patchSize,
        ])
        let patches = backend.permuted(split, axes: [0, 3, 5, 2, 1, 4, 6])
            .reshaped([geometry.tokenCount, config.inChannels * geometry.patchVolume])
        var tokens = backend.linear(patches, projection, activation: .none)
        if let positions { backend.addGated(&tokens, positions, gate: nil) }
        return tokens
    }
}
