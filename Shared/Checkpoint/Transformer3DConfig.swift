package import Failure

/// `transformer/config.json` of `CogVideoXTransformer3DModel`; absent fields hold the class defaults of diffusers.
///
/// Sizes named `sample…` are latent sizes (pixels / 8) except `sampleFrames`, which counts pixel frames.
package struct Transformer3DConfig: Sendable, Hashable, Codable {
    package var numAttentionHeads: Int
    package var attentionHeadDim: Int
    package var numLayers: Int
    /// Channels of the model's input: the latent channels, and twice that for image-to-video checkpoints.
    package var inChannels: Int
    package var outChannels: Int
    package var timeEmbedDim: Int
    /// Width of the offset embedding, which only CogVideoX1.5-5B-I2V has.
    package var ofsEmbedDim: Int?
    package var textEmbedDim: Int
    package var sampleWidth: Int
    package var sampleHeight: Int
    package var sampleFrames: Int
    package var patchSize: Int
    /// Latent frames of one patch: nil in CogVideoX 1.0, 2 in CogVideoX 1.5.
    package var patchSizeT: Int?
    /// Whether the patch embedding of a 1.0 model has a bias; the 1.5 embedding has one whatever this says.
    package var patchBias: Bool
    package var attentionBias: Bool
    package var temporalCompressionRatio: Int
    package var maxTextSeqLength: Int
    package var normElementwiseAffine: Bool
    package var normEps: Double
    package var spatialInterpolationScale: Double
    package var temporalInterpolationScale: Double
    package var useRotaryPositionalEmbeddings: Bool
    package var useLearnedPositionalEmbeddings: Bool
    package var flipSinToCos: Bool
    package var freqShift: Double

    /// Width of the residual stream: heads × head size.
    package var innerDim: Int { numAttentionHeads * attentionHeadDim }
    /// Latent frames of the native clip.
    package var sampleLatentFrames: Int { (sampleFrames - 1) / temporalCompressionRatio + 1 }

    /// Reads and validates `transformer/config.json` in a model folder; errors are `model_config_invalid`.
    package init(folder: String) throws(Failure) {
        let file = try ConfigFile(folder: folder, name: "transformer/config.json")
        try file.requireClass(["CogVideoXTransformer3DModel"])
        _ = try file.choice("activation_fn", default: "gelu-approximate", of: ["gelu-approximate"])
        _ = try file.choice("timestep_activation_fn", default: "silu", of: ["silu", "swish"])
        numAttentionHeads = try file.integer("num_attention_heads", default: 30, in: 1...4096)
        attentionHeadDim = try file.integer("attention_head_dim", default: 64, in: 2...1024)
        numLayers = try file.integer("num_layers", default: 30, in: 1...4096)
        inChannels = try file.extent("in_channels", default: 16)
        outChannels = try file.extent("out_channels", default: 16)
        timeEmbedDim = try file.extent("time_embed_dim", default: 512)
        ofsEmbedDim = try file.optionalInteger("ofs_embed_dim", in: 0...ConfigFile.extentLimit)
        if ofsEmbedDim == 0 { ofsEmbedDim = nil }
        textEmbedDim = try file.extent("text_embed_dim", default: 4096)
        sampleWidth = try file.extent("sample_width", default: 90)
        sampleHeight = try file.extent("sample_height", default: 60)
        sampleFrames = try file.extent("sample_frames", default: 49)
        patchSize = try file.integer("patch_size", default: 2, in: 1...64)
        patchSizeT = try file.optionalInteger("patch_size_t", in: 1...64)
        patchBias = try file.bool("patch_bias", default: true)
        attentionBias = try file.bool("attention_bias", default: true)
        temporalCompressionRatio = try file.integer("temporal_compression_ratio", default: 4, in: 1...64)
        maxTextSeqLength = try file.integer("max_text_seq_length", default: 226, in: 1...65_536)
        normElementwiseAffine = try file.bool("norm_elementwise_affine", default: true)
        normEps = try file.positiveNumber("norm_eps", default: 1e-5)
        spatialInterpolationScale = try file.positiveNumber("spatial_interpolation_scale", default: 1.875)
        temporalInterpolationScale = try file.positiveNumber("temporal_interpolation_scale", default: 1)
        useRotaryPositionalEmbeddings = try file.bool("use_rotary_positional_embeddings", default: false)
        useLearnedPositionalEmbeddings = try file.bool("use_learned_positional_embeddings", default: false)
        flipSinToCos = try file.bool("flip_sin_to_cos", default: true)
        freqShift = try file.number("freq_shift", default: 0)
        try checkCombinations(file)
    }

    private func checkCombinations(_ file: ConfigFile) throws(Failure) {
        if useLearnedPositionalEmbeddings && !useRotaryPositionalEmbeddings {
            throw file.invalid("use_learned_positional_embeddings", "false unless the model has rotary embeddings too")
        }
        if useRotaryPositionalEmbeddings && attentionHeadDim % 16 != 0 {
            throw file.invalid("attention_head_dim", "a multiple of 16, because rotary embeddings split it 2:3:3")
        }
        if !useRotaryPositionalEmbeddings && innerDim % 16 != 0 {
            throw file.invalid("attention_head_dim", "such that heads × head size is a multiple of 16")
        }
        if !useRotaryPositionalEmbeddings && patchSizeT != nil {
            throw file.invalid("use_rotary_positional_embeddings", "true when patch_size_t is set")
        }
        if innerDim % 2 != 0 || (ofsEmbedDim ?? 0) % 2 != 0 {
            throw file.invalid("ofs_embed_dim", "even")
        }
        if sampleWidth % patchSize != 0 || sampleHeight % patchSize != 0 {
            throw file.invalid("sample_width", "a multiple of patch_size, as must sample_height")
        }
        if let ofsEmbedDim, ofsEmbedDim != timeEmbedDim {
            throw file.invalid("ofs_embed_dim", "equal to time_embed_dim (\(timeEmbedDim)), to which it is added")
        }
    }
}
