package import Failure

/// `text_encoder/config.json` of `T5EncoderModel`; absent fields hold the class defaults of transformers.
package struct T5Config: Sendable, Hashable, Codable {
    /// The activation inside the feed-forward layers.
    package enum Activation: String, Sendable, Hashable, Codable {
        /// The tanh approximation of GELU.
        case geluNew = "gelu_new"
        case relu
        case silu
    }

    package var dModel: Int
    /// Size of one attention head; heads × head size need not equal `dModel`.
    package var dKV: Int
    package var numHeads: Int
    package var dFF: Int
    package var numLayers: Int
    package var vocabSize: Int
    package var relativeAttentionNumBuckets: Int
    package var relativeAttentionMaxDistance: Int
    package var layerNormEpsilon: Double
    /// Whether the feed-forward layer multiplies by a second, linear projection (T5 v1.1).
    package var isGatedAct: Bool
    package var denseActFn: Activation
    package var padTokenID: Int
    package var eosTokenID: Int

    /// Reads and validates `text_encoder/config.json` in a model folder; errors are `model_config_invalid`.
    package init(folder: String) throws(Failure) {
        let file = try ConfigFile(folder: folder, name: "text_encoder/config.json")
        _ = try file.choice("model_type", default: "t5", of: ["t5"])
        dModel = try file.extent("d_model", default: 512)
        dKV = try file.integer("d_kv", default: 64, in: 1...4096)
        numHeads = try file.integer("num_heads", default: 8, in: 1...4096)
        dFF = try file.extent("d_ff", default: 2048)
        numLayers = try file.integer("num_layers", default: 6, in: 1...4096)
        vocabSize = try file.extent("vocab_size", default: 32_128)
        relativeAttentionNumBuckets = try file.integer("relative_attention_num_buckets", default: 32, in: 4...65_536)
        relativeAttentionMaxDistance = try file.integer("relative_attention_max_distance", default: 128, in: 2...65_536)
        layerNormEpsilon = try file.positiveNumber("layer_norm_epsilon", default: 1e-6)
        padTokenID = try file.integer("pad_token_id", default: 0, in: 0...ConfigFile.extentLimit)
        eosTokenID = try file.integer("eos_token_id", default: 1, in: 0...ConfigFile.extentLimit)
        let projection = try file.choice(
            "feed_forward_proj", default: "relu", of: ["relu", "gated-gelu", "gated-relu", "silu", "gated-silu"])
        isGatedAct = projection.hasPrefix("gated-")
        // transformers reads "gated-gelu" as the tanh approximation, for the sake of the first v1.1 checkpoints.
        denseActFn = projection == "gated-gelu" ? .geluNew : projection.hasSuffix("silu") ? .silu : .relu
        guard relativeAttentionNumBuckets % 4 == 0 else {
            throw file.invalid("relative_attention_num_buckets", "a multiple of 4")
        }
        guard relativeAttentionMaxDistance > relativeAttentionNumBuckets / 4 else {
            throw file.invalid("relative_attention_max_distance", "more than a quarter of the buckets")
        }
    }
}
