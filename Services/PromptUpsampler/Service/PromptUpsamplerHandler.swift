package import Failure
package import Stage
import Request
import Tensor

/// Stage `prompt-upsampler`: a few words in, a caption of about ninety words out, by way of a chat model.
///
/// A rewritten prompt never fails a job: where none can be had, the user's goes on unchanged and a note says why. With
/// an input `frames` the task is to caption a clip instead, and then there is no other prompt to go on with.
package struct PromptUpsamplerHandler: StageHandler {
    package let stage = StageName.promptUpsampler.rawValue
    package let modelDigest = ""
    package let numerics = ""
    package let memoryPlan = MemoryPlan([:])
    private let endpoint: ChatEndpoint?
    private let captioner: ChatEndpoint?
    private let captionPrompt: String
    private let tries = 3

    /// - Parameters:
    ///   - endpoint: nil where none is configured: prompts then go on unchanged.
    ///   - captioner: whom to ask about clips; nil: the same.
    ///   - captionPrompt: what is asked there.
    package init(
        endpoint: ChatEndpoint?, captioner: ChatEndpoint? = nil, captionPrompt: String = ClipCaption.instruction
    ) {
        self.endpoint = endpoint
        self.captioner = captioner ?? endpoint
        self.captionPrompt = captionPrompt
    }

    package func run(_ task: StageTask) async throws(Failure) -> StageResult {
        task.hasInput("frames") ? try await captionClip(task) : try await upsample(task)
    }

    /// Fails with `caption_failed`, which another worker may not: the endpoint may have come back meanwhile, so the
    /// broker tries again; a refusal is for good.
    private func captionClip(_ task: StageTask) async throws(Failure) -> StageResult {
        let frames = try await task.input(
            "frames", TensorExpectation([.uint8], [.any("frames"), .any("height"), .any("width"), .exactly(3)]))
        guard captioner != nil else {
            throw Failure(
                "caption_failed", "no chat endpoint is configured (--base-url)", field: "caption_of",
                remedy: "Start the prompt upsampler with --base-url.")
        }
        let caption: String
        do {
            caption = try await answer(try ClipCaption.messages(captionPrompt, frames: frames), captioner, task)
        } catch {
            try task.checkCancelled()
            throw Failure(
                "caption_failed", "The clip could not be captioned: \(error.message).", field: "caption_of",
                remedy: "Look at the chat service, or write the prompt yourself.",
                retry: error.code == "chat_refused" ? .never : .sameWorker)
        }
        guard caption.utf8.count <= RequestLimits.promptBytes, !caption.utf8.contains(0) else {
            throw Failure(
                "caption_failed", "The chat service answered with \(caption.utf8.count) bytes, which is no prompt.",
                field: "caption_of", remedy: "Ask for a shorter caption (--caption-prompt).")
        }
        var result = StageResult()
        result.add("prompt", Tensor(bytes: Array(caption.utf8)))
        result.note("The clip was captioned: \(caption)")
        return result
    }

    private func upsample(_ task: StageTask) async throws(Failure) -> StageResult {
        let prompt = try task.parameters(UpsampleParameters.self).prompt
        var result = StageResult()
        do {
            let caption = try await caption(for: prompt, task)
            result.add("prompt", Tensor(bytes: Array(caption.utf8)))
            result.note("The prompt was expanded to: \(caption)")
        } catch {
            try task.checkCancelled()
            result.add("prompt", Tensor(bytes: Array(prompt.utf8)))
            result.note("The prompt went in unchanged: \(error.message).")
        }
        return result
    }

    private func caption(for prompt: String, _ task: StageTask) async throws(Failure) -> String {
        try await answer(CaptionPrompts.messages(for: prompt.trimmed), endpoint, task)
    }

    /// What the service answers, asked a few times.
    private func answer(
        _ messages: [ChatMessage], _ endpoint: ChatEndpoint?, _ task: StageTask
    ) async throws(Failure) -> String {
        guard let endpoint else {
            throw Failure("upsampler_not_configured", "no chat endpoint is configured (--base-url)")
        }
        var last = Failure("chat_unreachable", "no try was made")
        for attempt in 1...tries {
            try task.checkCancelled()
            task.report(step: attempt - 1, of: tries)
            do {
                return try await endpoint.complete(messages)
            } catch {
                last = error
                if error.code == "chat_refused" { break }
            }
        }
        throw last
    }
}

extension String {
    fileprivate var trimmed: String {
        let kept = drop { $0.isWhitespace }
        guard let end = kept.lastIndex(where: { !$0.isWhitespace }) else { return "" }
        return String(kept[...end])
    }
}
