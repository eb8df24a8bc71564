package import Checkpoint
package import Compute
package import Failure
import Model
import Request
package import Stage
import Tensor
import Text

/// Stage `text-encoder`: prompt and negative prompt to T5 features, as `CogVideoXPipeline.encode_prompt` makes them.
///
/// Outputs: `input_ids` `[1, L]` int32, `prompt_embeds` `[1, L, D]` and, with guidance, `negative_prompt_embeds`,
/// in the dtype of the job. L is the transformer's `max_text_seq_length`.
package struct TextEncoderHandler: StageHandler {
    package let stage = StageName.textEncoder.rawValue
    package let modelDigest: String
    package let memoryPlan: MemoryPlan
    private let folder: ModelFolder
    private let backend: any Backend
    private let budget: MemoryBudget
    private let tokenizer: T5Tokenizer
    private let encoders = LoadedOnce<DType, T5Encoder>()
    /// Features of the empty negative prompt, which nearly every job needs.
    private let unconditional = LoadedOnce<DType, Tensor>()
    private let cache: EmbeddingCache?

    package var numerics: String { backend.numerics }

    /// Opens tokenizer and weight files; weights are read when the first job comes whose features are not in `cache`.
    package init(
        folder: ModelFolder, backend: any Backend, budget: MemoryBudget, cache: EmbeddingCache? = nil
    ) throws(Failure) {
        self.cache = cache
        self.folder = folder
        self.backend = backend
        self.budget = budget
        modelDigest = try folder.digest()
        tokenizer = try T5Tokenizer(folder: folder.tokenizerPath)
        memoryPlan = MemoryPlan([
            "weights in float32": try folder.weightBytes(.textEncoder, dtype: .float32),
            "activations": Self.activationBytes(folder),
        ])
    }

    package func run(_ task: StageTask) async throws(Failure) -> StageResult {
        let parameters = try task.parameters(EncodeParameters.self)
        let prompt = try await upsampledPrompt(task) ?? parameters.prompt
        let dtype = parameters.dtype.dtype
        var result = StageResult()
        let tokens = tokenize(prompt, &result)
        result.add("input_ids", Tensor(ids: tokens, shape: [1, tokens.count]))
        guard let negative = parameters.negativePrompt else {
            result.add("prompt_embeds", try features([tokens], dtype, task)[0])
            return result
        }
        let negativeTokens = tokenize(negative, &result)
        if negative.isEmpty {
            result.add("prompt_embeds", try features([tokens], dtype, task)[0])
            // The same for every job, so it is made once.
            let unconditional = try unconditional.value(for: dtype) { () throws(Failure) -> Tensor in
                try features([negativeTokens], dtype, task)[0]
            }
            result.add("negative_prompt_embeds", unconditional)
        } else {
            let both = try features([tokens, negativeTokens], dtype, task)
            result.add("prompt_embeds", both[0])
            result.add("negative_prompt_embeds", both[1])
        }
        return result
    }

    private func upsampledPrompt(_ task: StageTask) async throws(Failure) -> String? {
        guard let bytes = try await task.optionalInput("prompt", .bytes) else { return nil }
        guard let text = bytes.withUnsafeBytes({ String(validating: $0, as: UTF8.self) }) else {
            throw Failure("prompt_not_text", "the prompt is not valid UTF-8", field: "prompt", remedy: "Send UTF-8.")
        }
        return text
    }

    /// Token ids, padded; a text over the limit is cut and the user told in diffusers' words.
    private func tokenize(_ text: String, _ result: inout StageResult) -> [Int32] {
        let limit = folder.transformer.maxTextSeqLength
        let tokenized = tokenizer.encode(text, maximumLength: limit)
        if let tail = tokenized.truncatedText {
            result.note(
                "The following part of your input was truncated because `max_sequence_length` is set to  \(limit)"
                    + " tokens: \(tail)")
        }
        return tokenized.ids
    }

    /// Features `[1, L, D]` of prompts, from the cache or made; those that are made share every pass over the weights.
    private func features(_ prompts: [[Int32]], _ dtype: DType, _ task: StageTask) throws(Failure) -> [Tensor] {
        let keys = prompts.map {
            EmbeddingCache.Key(model: modelDigest, numerics: numerics, dtype: dtype, tokens: $0)
        }
        var found = keys.map { cache?.features($0) }
        let missing = found.indices.filter { found[$0] == nil }
        if !missing.isEmpty {
            let made = try encode(missing.map { prompts[$0] }, dtype, task)
            for (index, features) in zip(missing, made) {
                found[index] = features
                cache?.store(features, keys[index])
            }
        }
        return found.compactMap(\.self)
    }

    private func encode(_ prompts: [[Int32]], _ dtype: DType, _ task: StageTask) throws(Failure) -> [Tensor] {
        let weights = try folder.weightBytes(.textEncoder, dtype: dtype)
        try budget.check(weights + Self.activationBytes(folder), for: "the text encoder in \(dtype)")
        let encoder = try encoders.value(for: dtype) { () throws(Failure) -> T5Encoder in
            try T5Encoder(folder: folder, backend: backend, dtype: dtype)
        }
        let features = try encoder.encode(sequences: prompts) { (layer, layers) throws(Failure) in
            task.report(step: layer, of: layers)
            try task.checkCancelled()
        }
        return features.map { $0.reshaped([1] + $0.shape) }
    }

    /// About eight token activations and the attention bias of all heads.
    private static func activationBytes(_ folder: ModelFolder) -> Int {
        let config = folder.textEncoder
        let length = folder.transformer.maxTextSeqLength
        return 4 * length * (6 * max(config.dModel, config.numHeads * config.dKV) + 2 * config.dFF)
            + 4 * config.numHeads * length * length
    }
}
