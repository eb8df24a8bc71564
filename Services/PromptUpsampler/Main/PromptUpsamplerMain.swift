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

    @Option(help: "Bearer token; better given as ZOETROPE_UPSAMPLER_API_KEY.")
    var apiKey: String?

    @OptionGroup var worker: WorkerOptions
    @OptionGroup var logging: LoggingOptions

    func run() async throws {
        let key = apiKey ?? ProcessInfo.processInfo.environment["ZOETROPE_UPSAMPLER_API_KEY"]
        var endpoint: ChatEndpoint?
        if let baseUrl { endpoint = try ChatEndpoint(baseURL: baseUrl, model: chatModel, apiKey: key) }
        let handler = PromptUpsamplerHandler(endpoint: endpoint)
        try await worker.serve(
            handler, settings: ["chat": endpoint?.description ?? "not configured"],
            logger: logging.logger(service: "prompt-upsampler"))
    }
}
