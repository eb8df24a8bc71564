import ArgumentParser
import Compute
import VAEDecoderService
import Runtime
import Stage

@main
struct VAEDecoderMain {
    static func main() async {
        await Launch.run(VAEDecoderCommand.self, service: "vae-decoder")
    }
}

struct VAEDecoderCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "zoetrope-vae-decoder", abstract: "Turns latents into frames.", version: ServiceVersion.current)

    @OptionGroup var model: ModelOptions
    @Flag(help: "Decode in tiles what would not fit into --memory-limit otherwise; the job's notes say so.")
    var tileWhenShort = false

    @OptionGroup var worker: WorkerOptions
    @OptionGroup var logging: LoggingOptions

    func run() async throws {
        let cpus = try model.processors.bind()
        let backend = CPUBackend(threads: model.threadCount)
        let handler = try VAEDecoderHandler(
            folder: try model.folder(), backend: backend, budget: worker.memoryBudget, tilesWhenShort: tileWhenShort)
        let settings = [
            "model_folder": model.model, "backend": backend.description, "tile_when_short": "\(tileWhenShort)",
        ]
        try await worker.serve(
            handler, settings: settings, cpus: cpus, logger: logging.logger(service: "vae-decoder"))
    }
}
