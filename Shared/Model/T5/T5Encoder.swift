package import Checkpoint
package import Compute
package import Failure
package import Tensor

/// The T5 text encoder (`T5EncoderModel`): token ids to one feature row a token.
///
/// CogVideoX passes no attention mask: padding takes part in attention and its rows go to the transformer.
package final class T5Encoder: Sendable {
    package let config: T5Config
    /// The dtype of activations and of the result.
    package let dtype: DType
    private let backend: any Backend
    private let embeddings: Tensor
    private let positionBias: RelativePositionBias
    private let blocks: [T5Block]
    private let finalNorm: Tensor

    private static let embeddingKeys = ["shared.weight", "encoder.embed_tokens.weight"]
    private static let positionKey = "encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight"

    /// Loads `text_encoder/` of a checkpoint for work in `dtype` (float32 or bfloat16).
    ///
    /// Weights may be stored as F16, BF16 or F32. The token table may be called `shared.weight`,
    /// `encoder.embed_tokens.weight` or both. Fails with `checkpoint_keys_mismatch` and the codes of
    /// `ModelFolder.weights`.
    package init(folder: ModelFolder, backend: any Backend, dtype: DType) throws(Failure) {
        requireWorkingDType(dtype)
        config = folder.textEncoder
        self.dtype = dtype
        self.backend = backend
        let weights = try folder.weights(.textEncoder)
        let table = Self.embeddingKeys.first(where: weights.contains) ?? Self.embeddingKeys[0]
        // A whole T5 is as good as its encoder alone.
        let optional = Set(Self.embeddingKeys).subtracting([table])
        try weights.check(expected: Self.expectedWeights(config), optional: optional) {
            $0.hasPrefix("decoder.") || $0 == "lm_head.weight" || $0.hasSuffix("position_ids")
        }
        let loader = LayerLoader(weights: weights, backend: backend, dtype: dtype)
        embeddings = try weights.tensor(table)
        positionBias = RelativePositionBias(
            table: try loader.vector(Self.positionKey), maximumDistance: config.relativeAttentionMaxDistance)
        var blocks: [T5Block] = []
        for index in 0..<config.numLayers {
            blocks.append(try T5Block(loader, prefix: "encoder.block.\(index)", config: config))
        }
        self.blocks = blocks
        finalNorm = try loader.vector("encoder.final_layer_norm.weight")
    }

    /// Every key of the checkpoint and its shape; the token table is there under both of its names.
    package static func expectedWeights(_ config: T5Config) -> [String: [Int]] {
        var expected = ExpectedWeights()
        for key in embeddingKeys { expected.tensor(key, [config.vocabSize, config.dModel]) }
        expected.tensor(positionKey, [config.relativeAttentionNumBuckets, config.numHeads])
        for index in 0..<config.numLayers {
            T5Block.expect(&expected, prefix: "encoder.block.\(index)", config: config)
        }
        expected.tensor("encoder.final_layer_norm.weight", [config.dModel])
        return expected.shapes
    }

    /// Features `[ids.count, dModel]` of a token sequence, padding included; fails as `encode(sequences:)`.
    package func encode(
        ids: [Int32], blockDone: (Int, Int) throws(Failure) -> Void = { (_, _) throws(Failure) in }
    ) throws(Failure) -> Tensor {
        try encode(sequences: [ids], blockDone: blockDone)[0]
    }

    /// Features of several sequences of one length, which share every pass over the weights.
    ///
    /// `blockDone` is told (layers done, layers) and may throw to stop. Fails with `token_out_of_range` and
    /// `numeric_fault`.
    package func encode(
        sequences: [[Int32]], blockDone: (Int, Int) throws(Failure) -> Void = { (_, _) throws(Failure) in }
    ) throws(Failure) -> [Tensor] {
        let length = sequences.first?.count ?? 0, ids = sequences.flatMap { $0 }
        precondition(sequences.allSatisfy { $0.count == length }, "sequences of one length")
        guard !ids.isEmpty else {
            throw Failure("token_out_of_range", "There are no token ids to encode.", field: "ids")
        }
        if let bad = ids.first(where: { $0 < 0 || Int($0) >= config.vocabSize }) {
            throw Failure(
                "token_out_of_range", "Token id \(bad) is outside the vocabulary of \(config.vocabSize).", field: "ids",
                remedy: "The tokenizer and the text encoder must come from the same checkpoint.")
        }
        let bias = positionBias(length: length)
        var x = backend.embedding(ids, table: embeddings, dtype: dtype)
        for (index, block) in blocks.enumerated() {
            block(&x, bias: bias, sequences: sequences.count, backend: backend)
            try blockDone(index + 1, blocks.count)
        }
        let result = backend.rmsNorm(x, weight: finalNorm, epsilon: Float(config.layerNormEpsilon))
        try result.requireFinite("The text encoding", field: "prompt_embeds")
        return sequences.indices.map { result.rows(($0 * length)..<(($0 + 1) * length)) }
    }
}
