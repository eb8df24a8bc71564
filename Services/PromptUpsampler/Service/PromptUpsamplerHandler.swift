package import Failure
package import Stage
import Request
import Tensor

/// Stage `prompt-upsampler`: a few words in, a caption of about ninety words out, by way of a chat model.
///
/// The stage never fails a job: where no caption can be had, the prompt goes on unchanged and a note says why.
package struct PromptUpsamplerHandler: StageHandler {
    package let stage = StageName.promptUpsampler.rawValue
    package let modelDigest = ""
    package let numerics = ""
    package let memoryPlan = MemoryPlan([:])
    private let endpoint: ChatEndpoint?
    private let tries = 3

    /// - Parameter endpoint: nil where none is configured: prompts then go on unchanged.
    package init(endpoint: ChatEndpoint?) { self.endpoint = endpoint }

    package func run(_ task: StageTask) async throws(Failure) -> StageResult {
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
        guard let endpoint else {
            throw Failure("upsampler_not_configured", "no chat endpoint is configured (--base-url)")
        }
        let messages = CaptionPrompts.messages(for: prompt.trimmed)
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
