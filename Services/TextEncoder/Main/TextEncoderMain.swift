import ArgumentParser
import Compute
import Failure
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

    @Option(help: "Folder that keeps text features for the prompts to come; text encoders may share it. Default: none.")
    var embeddingCache: String?

    @Option(help: "Mebibytes that the folder may hold.")
    var embeddingCacheSize: Int = 1024

    @OptionGroup var logging: LoggingOptions

    func run() async throws {
        let cpus = try model.processors.bind()
        let backend = CPUBackend(threads: model.threadCount)
        let cache = try embeddingCache.map { (folder) throws(Failure) in
            try EmbeddingCache(folder: folder, limitBytes: max(1, embeddingCacheSize) << 20)
        }
        let handler = try TextEncoderHandler(
            folder: try model.folder(), backend: backend, budget: worker.memoryBudget, cache: cache)
        try await worker.serve(
            handler, settings: ["model_folder": model.model, "backend": backend.description], cpus: cpus,
            logger: logging.logger(service: "text-encoder"))
    }
}
