import ArgumentParser
import Compute
import DenoiserService
import Runtime
import Stage

@main
struct DenoiserMain {
    static func main() async {
        await Launch.run(DenoiserCommand.self, service: "denoiser")
    }
}

struct DenoiserCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "zoetrope-denoiser",
        abstract: "Turns noise and T5 features into latents, one checkpoint after another.",
        version: ServiceVersion.current)

    @OptionGroup var model: ModelOptions

    @Option(help: "Folder of the LoRA adapters that jobs may name. Default: they may name none.")
    var adapters: String?

    @OptionGroup var worker: WorkerOptions
    @OptionGroup var logging: LoggingOptions

    func run() async throws {
        let cpus = try model.processors.bind()
        let backend = CPUBackend(threads: model.threadCount)
        let handler = try DenoiserHandler(
            folder: try model.folder(), backend: backend, budget: worker.memoryBudget, adapters: adapters)
        try await worker.serve(
            handler,
            settings: ["model_folder": model.model, "backend": backend.description, "adapters": adapters ?? "none"],
            cpus: cpus,
            logger: logging.logger(service: "denoiser"))
    }
}
