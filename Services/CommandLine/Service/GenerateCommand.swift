package import ArgumentParser
import Checkpoint
import DemoModel
import Failure
import Foundation
import Request
package import Runtime
import Tensor

/// `zoetrope generate`: a private cluster, one job, its files, and everything stopped again.
package struct GenerateCommand: AsyncParsableCommand {
    package static let configuration = CommandConfiguration(
        commandName: "generate", abstract: "Make one video on this machine, with no server running.")

    @OptionGroup package var video: GenerationOptions

    @Option(help: "Folder of a CogVideoX model in diffusers layout. [default: the built-in demo model]")
    package var model: String?

    @Option(help: "File to write; the extension chooses mp4, webm, gif or mkv (lossless). [default: out.mp4]")
    package var output: String?

    @Option(help: "Contact sheet to write. [default: beside the output, as PNG]")
    package var contactSheet: String?

    @Option(help: "video, frames or latent: where to stop.")
    package var outputType = "video"

    @Option(help: "Start from these latents (safetensors) instead of the seed's noise.")
    package var initLatents: String?

    @Option(help: "Folder for input_ids, prompt_embeds, latents of every step, latents and frames as safetensors.")
    package var saveIntermediates: String?

    @Option(help: "Threads a worker uses. [default: one for each CPU it may use]")
    package var threads: Int?

    @Option(help: "CPUs that every worker runs on, such as 0-7,16. [default: all]")
    package var cpus: String?

    @Option(help: "Memory that the broker and each worker share with the others: 256MB, 1GB, or off. [default: 256MB]")
    package var sharedMemory: SharedMemorySize?

    @Option(help: "Seconds without a sign of life after which a worker's task goes to another.")
    package var leaseSeconds: Int = 5

    @Option(help: "How long the video is wanted once all processes are up, such as 90s, 10m or 1h30m.")
    package var deadline: TimeSpan?

    @Flag(help: "Keep the folder with the logs, the ledger and the stored tensors.")
    package var keepRunDirectory = false

    @OptionGroup package var upsampler: UpsamplerOptions
    @OptionGroup package var logging: LoggingOptions

    package init() {}

    package func run() async throws {
        let began = ContinuousClock.now
        let files = try OutputFiles(output: output, contactSheet: contactSheet, outputType: outputType)
        let cpus = try CPUChoice(cpus, usable: .current())
        let folder = try ModelFolder(path: try model ?? DemoModel.path())
        let traits = try ModelTraits(folder: folder, digest: "")
        var fields = video.fields()
        fields["container"] = files.container
        fields["output_type"] = outputType
        if upsampler.arguments != nil { fields["upsample_prompt"] = true }
        if saveIntermediates != nil {
            fields["keep_step_latents"] = true
            fields["keep_float_frames"] = true
        }
        if initLatents != nil { fields["init_latents"] = "" }
        let request = try RequestDraft(json: JSONSerialization.data(withJSONObject: fields)).resolved(for: traits)
        let latents = try initLatents.map { path throws(Failure) in
            try LatentsFile.read(path: path, shape: traits.latentShape(for: request))
        }
        fields["seed"] = request.seed

        let workspace = try Workspace.temporary()
        var plan = ClusterPlan(
            model: folder.path, runDirectory: workspace.runDirectory, dataDirectory: workspace.dataDirectory,
            gateway: ListenAddress(host: "127.0.0.1", port: try ClusterSupervisor.freePort()))
        plan.threads = threads
        plan.cpus = cpus
        plan.sharedMemory = sharedMemory
        plan.leaseSeconds = leaseSeconds
        plan.upsamplerArguments = upsampler.arguments
        plan.logLevel = logging.logLevel
        plan.logFormat = logging.logFormat
        let supervisor = ClusterSupervisor(plan: plan, logFolder: workspace.logs) { Console.note($0) }
        let run = GenerateRun(
            plan: plan, supervisor: supervisor, request: request, traits: traits, fields: fields, files: files,
            latents: latents, intermediates: saveIntermediates, deadline: deadline, began: began)
        do {
            try await Interruption.stopping(supervisor) { try await run.perform() }
        } catch {
            await supervisor.stop()
            Console.note("logs: \(workspace.logs)")
            throw error
        }
        await supervisor.stop()
        if keepRunDirectory { Console.note("kept \(workspace.root)") } else { workspace.remove() }
    }
}

/// How to reach the language model that rewrites prompts; without a base URL the stage does not exist.
package struct UpsamplerOptions: ParsableArguments {
    @Option(help: "Base URL of an OpenAI-compatible chat endpoint; turns the prompt upsampler on.")
    package var upsamplerBaseUrl: String?

    @Option(help: "Model name at that endpoint.")
    package var upsamplerModel: String?

    package init() {}

    /// Arguments for `zoetrope-prompt-upsampler`; its key comes from ZOETROPE_UPSAMPLER_API_KEY.
    package var arguments: [String]? {
        guard let upsamplerBaseUrl else { return nil }
        return ["--base-url", upsamplerBaseUrl] + (upsamplerModel.map { ["--chat-model", $0] } ?? [])
    }
}
