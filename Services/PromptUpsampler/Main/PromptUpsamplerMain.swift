import ArgumentParser
import Failure
import FoundationEssentials
import PromptUpsamplerService
import Runtime
import Stage

@main
struct PromptUpsamplerMain {
    static func main() async {
        await Launch.run(PromptUpsamplerCommand.self, service: "prompt-upsampler")
    }
}

struct PromptUpsamplerCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "zoetrope-prompt-upsampler",
        abstract: "Expands short prompts into captions by an OpenAI-compatible chat service.",
        version: ServiceVersion.current)

    @Option(help: "What comes before /chat/completions; without it prompts go on unchanged.")
    var baseUrl: String?

    @Option(help: "Name of the chat model.")
    var chatModel: String = "gpt-4o"

    @Option(help: "Name of the chat model that captions clips; it must see pictures. [default: --chat-model]")
    var captionModel: String?

    @Option(help: "File with what that model is asked about a clip's frames.")
    var captionPrompt: String?

    @Option(help: "Seconds to wait for one answer.")
    var timeout = 60.0

    @Option(help: "Bearer token; better given as ZOETROPE_UPSAMPLER_API_KEY.")
    var apiKey: String?

    @OptionGroup var worker: WorkerOptions
    @OptionGroup var logging: LoggingOptions

    func run() async throws {
        let key = apiKey ?? ProcessInfo.processInfo.environment["ZOETROPE_UPSAMPLER_API_KEY"]
        var endpoint: ChatEndpoint?
        var captioner: ChatEndpoint?
        if let baseUrl {
            endpoint = try ChatEndpoint(baseURL: baseUrl, model: chatModel, apiKey: key, timeout: timeout)
            captioner = try captionModel.map { (name) throws(Failure) in
                try ChatEndpoint(baseURL: baseUrl, model: name, apiKey: key, timeout: timeout)
            }
        }
        let handler = PromptUpsamplerHandler(
            endpoint: endpoint, captioner: captioner, captionPrompt: try instruction() ?? ClipCaption.instruction)
        try await worker.serve(
            handler, settings: ["chat": endpoint?.description ?? "not configured"],
            logger: logging.logger(service: "prompt-upsampler"))
    }

    private func instruction() throws(Failure) -> String? {
        guard let captionPrompt else { return nil }
        guard let bytes = FileManager.default.contents(atPath: captionPrompt), !bytes.isEmpty, bytes.count <= 16384,
            let text = String(validating: bytes, as: UTF8.self)
        else {
            throw Failure(
                "caption_prompt_unreadable", "\(captionPrompt) is no text of at most 16 KiB.", field: "caption-prompt",
                remedy: "Name a UTF-8 file with what the model is to be asked.")
        }
        return text
    }
}
