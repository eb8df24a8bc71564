import ArgumentParser
import Compute
import TextEncoderService
import Runtime
import Stage

@main
struct TextEncoderMain {
    static func main() async {
        await Launch.run(TextEncoderCommand.self, service: "text-encoder")
    }
}

struct TextEncoderCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "zoetrope-text-encoder", abstract: "Turns prompts into T5 features.",
        version: ServiceVersion.current)

    @OptionGroup var model: ModelOptions
    @OptionGroup var worker: WorkerOptions
    @OptionGroup var logging: LoggingOptions

    func run() async throws {
        let cpus = try model.processors.bind()
        let backend = CPUBackend(threads: model.threadCount)
        let handler = try TextEncoderHandler(folder: try model.folder(), backend: backend, budget: worker.memoryBudget)
        try await worker.serve(
            handler, settings: ["model_folder": model.model, "backend": backend.description], cpus: cpus,
            logger: logging.logger(service: "text-encoder"))
    }
}
