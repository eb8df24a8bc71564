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

    package var numerics: String { backend.numerics }

    /// Opens tokenizer and weight files; weights are read when the first job comes.
    package init(folder: ModelFolder, backend: any Backend, budget: MemoryBudget) throws(Failure) {
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
        let weights = try folder.weightBytes(.textEncoder, dtype: parameters.dtype.dtype)
        try budget.check(
            weights + Self.activationBytes(folder), for: "the text encoder in \(parameters.dtype.rawValue)")
        let encoder = try encoders.value(for: parameters.dtype.dtype) { () throws(Failure) -> T5Encoder in
            try T5Encoder(folder: folder, backend: backend, dtype: parameters.dtype.dtype)
        }

        var result = StageResult()
        let tokens = tokenize(prompt, &result)
        result.add("input_ids", Tensor(ids: tokens, shape: [1, tokens.count]))
        guard let negative = parameters.negativePrompt else {
            result.add("prompt_embeds", try encode([tokens], encoder, task)[0])
            return result
        }
        let negativeTokens = tokenize(negative, &result)
        if negative.isEmpty {
            result.add("prompt_embeds", try encode([tokens], encoder, task)[0])
            // The same for every job, so it is made once.
            let features = try unconditional.value(for: parameters.dtype.dtype) { () throws(Failure) -> Tensor in
                try encode([negativeTokens], encoder, task)[0]
            }
            result.add("negative_prompt_embeds", features)
        } else {
            let features = try encode([tokens, negativeTokens], encoder, task)
            result.add("prompt_embeds", features[0])
            result.add("negative_prompt_embeds", features[1])
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

    /// Features `[1, L, D]` of prompts that share every pass over the weights.
    private func encode(
        _ prompts: [[Int32]], _ encoder: T5Encoder, _ task: StageTask
    ) throws(Failure) -> [Tensor] {
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
