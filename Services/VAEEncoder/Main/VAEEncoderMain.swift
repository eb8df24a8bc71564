import ArgumentParser
import Compute
import Runtime
import Stage
import VAEEncoderService

@main
struct VAEEncoderMain {
    static func main() async {
        await Launch.run(VAEEncoderCommand.self, service: "vae-encoder")
    }
}

struct VAEEncoderCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "zoetrope-vae-encoder", abstract: "Turns pictures and clips into latents.",
        version: ServiceVersion.current)

    @OptionGroup var model: ModelOptions
    @OptionGroup var worker: WorkerOptions
    @OptionGroup var logging: LoggingOptions

    func run() async throws {
        let cpus = try model.processors.bind()
        let backend = CPUBackend(threads: model.threadCount)
        let handler = try VAEEncoderHandler(folder: try model.folder(), backend: backend, budget: worker.memoryBudget)
        try await worker.serve(
            handler, settings: ["model_folder": model.model, "backend": backend.description], cpus: cpus,
            logger: logging.logger(service: "vae-encoder"))
    }
}
