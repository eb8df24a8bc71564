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

    @Option(help: "File with one prompt a line; a video of each. Started again, it makes what is missing.")
    package var promptsFile: String?

    @Option(help: "Seeds to make every prompt with, such as 1..8 or 3,7,9.")
    package var seeds: String?

    @Option(help: "Videos of every prompt, with seeds from --seed on; as --seeds. [default: 1]")
    package var numVideos: Int?

    @Option(help: "Folder for the videos of --prompts-file or --seeds. [default: videos]")
    package var outputDirectory: String?

    @Option(help: "Contact sheet to write. [default: beside the output, as PNG]")
    package var contactSheet: String?

    @Option(help: "Of a batch: mp4, webm, gif or mkv.")
    package var container = "mp4"

    @Option(help: "video, frames or latent: where to stop.")
    package var outputType = "video"

    @Option(help: "Start from these latents (safetensors) instead of the seed's noise.")
    package var initLatents: String?

    @Option(help: "Folder for input_ids, prompt_embeds, latents of every step, latents and frames as safetensors.")
    package var saveIntermediates: String?

    @Option(help: "Folder of adapters that --lora names. [default: --lora names files and folders anywhere]")
    package var adapters: String?

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

    package func validate() throws {
        guard video.prompt != nil || promptsFile != nil || video.captionOf != nil else {
            throw ValidationError("Missing expected argument '<prompt>'")
        }
    }

    package func run() async throws {
        if promptsFile != nil || seeds != nil || numVideos != nil { return try await runBatch() }
        let began = ContinuousClock.now
        let files = try OutputFiles(output: output, contactSheet: contactSheet, outputType: outputType)
        let cpus = try CPUChoice(cpus, usable: .current())
        let folder = try ModelFolder(path: try model ?? DemoModel.path())
        let traits = try ModelTraits(folder: folder, digest: "")
        var fields = video.fields()
        fields["container"] = files.container
        fields["output_type"] = outputType
        if upsampler.arguments != nil, video.captionOf == nil { fields["upsample_prompt"] = true }
        if saveIntermediates != nil {
            fields["keep_step_latents"] = true
            fields["keep_float_frames"] = true
        }
        if initLatents != nil { fields["init_latents"] = "" }
        let adapters = try LocalAdapters(video.lora, folder: adapters, model: folder)
        fields["loras"] = adapters.field
        let media = try MediaFiles(video)
        for field in media.fields { fields[field] = "" }
        let request = try RequestDraft(json: JSONSerialization.data(withJSONObject: fields))
            .resolved(for: traits, sourceFrames: try media.clipFrames(rate: video.sourceFps))
        let latents = try initLatents.map { path throws(Failure) in
            try LatentsFile.read(path: path, shape: traits.latentShape(for: request))
        }
        fields["seed"] = request.seed

        try await withCluster(folder, cpus, adapters) { [fields] plan, supervisor in
            try await GenerateRun(
                plan: plan, supervisor: supervisor, request: request, traits: traits, fields: fields, files: files,
                latents: latents, media: media, intermediates: saveIntermediates, deadline: deadline, began: began
            ).perform()
        }
    }

    /// Runs `body` with a cluster of its own, which it starts, and which is stopped whatever happens.
    private func withCluster(
        _ folder: ModelFolder, _ cpus: CPUChoice?, _ adapters: LocalAdapters,
        _ body: (ClusterPlan, ClusterSupervisor) async throws -> Void
    ) async throws {
        try await PrivateCluster.with(
            folder, keepsFolder: keepRunDirectory,
            configure: { plan, root in
                plan.threads = threads
                plan.cpus = cpus
                plan.sharedMemory = sharedMemory
                plan.leaseSeconds = leaseSeconds
                plan.upsamplerArguments = upsampler.arguments
                plan.logLevel = logging.logLevel
                plan.logFormat = logging.logFormat
                plan.adapters = try adapters.folder(at: root + "/adapters")
            }, body)
    }
}

extension GenerateCommand {
    /// Every prompt of the file with every seed.
    private func runBatch() async throws {
        if let given = [
            ("--output", output), ("--contact-sheet", contactSheet), ("--init-latents", initLatents),
            ("--save-intermediates", saveIntermediates),
        ].first(where: { $0.1 != nil }) {
            throw Failure(
                "fields_conflict", "\(given.0) is for one video, and this is a batch.",
                field: String(given.0.dropFirst(2)),
                remedy: "Leave it out; --output-directory says where the videos go.")
        }
        let destination = outputDirectory ?? "videos"
        do {
            try FileManager.default.createDirectory(atPath: destination, withIntermediateDirectories: true)
        } catch {
            throw Failure(
                "output_unwritable", "cannot make \(destination): \(error.localizedDescription)",
                field: "output-directory")
        }
        let seeds = try batchSeeds()
        let clip = video.captionOf.map { URL(fileURLWithPath: $0).deletingPathExtension().lastPathComponent }
        let batch = try BatchPlan(prompts: try prompts(), seeds: seeds, container: container, title: clip)
        let cpus = try CPUChoice(cpus, usable: .current())
        let folder = try ModelFolder(path: try model ?? DemoModel.path())
        let traits = try ModelTraits(folder: folder, digest: "")
        let media = try MediaFiles(video)
        var fields = video.fields()
        fields["container"] = container
        if upsampler.arguments != nil, clip == nil { fields["upsample_prompt"] = true }
        let adapters = try LocalAdapters(video.lora, folder: adapters, model: folder)
        fields["loras"] = adapters.field
        var checked = fields
        for field in media.fields { checked[field] = "" }
        for prompt in Set(batch.items.map(\.prompt)) {
            checked["prompt"] = prompt
            _ = try RequestDraft(json: JSONSerialization.data(withJSONObject: checked))
                .resolved(for: traits, sourceFrames: try media.clipFrames(rate: video.sourceFps))
        }
        try await withCluster(folder, cpus, adapters) { [fields] plan, supervisor in
            try await BatchRun(
                plan: plan, supervisor: supervisor, items: batch.items, fields: fields, media: media,
                folder: destination
            ).perform()
        }
    }

    /// Of `--seeds`, or of `--num-videos` from `--seed` on; nil lets every prompt have one of its own.
    private func batchSeeds() throws(Failure) -> [UInt64]? {
        if let seeds {
            guard numVideos == nil else {
                throw Failure(
                    "fields_conflict", "--seeds is given together with --num-videos.", field: "seeds",
                    remedy: "Give one of them.")
            }
            return try BatchPlan.seeds(seeds)
        }
        guard let numVideos else { return video.seed.map { [$0] } }
        return try BatchPlan.seeds(count: numVideos, from: video.seed ?? 1)
    }

    private func prompts() throws(Failure) -> [String] {
        // A caption is written when the first video is made.
        guard let promptsFile else { return (video.prompt ?? (video.captionOf == nil ? nil : "")).map { [$0] } ?? [] }
        guard video.prompt == nil else {
            throw Failure(
                "fields_conflict", "A prompt is given together with --prompts-file.", field: "prompt",
                remedy: "Give one of them.")
        }
        guard let bytes = FileManager.default.contents(atPath: promptsFile),
            let text = String(bytes: bytes, encoding: .utf8)
        else {
            throw Failure(
                "batch_invalid", "\(promptsFile) cannot be read as text.", field: "prompts-file",
                remedy: "Name a UTF-8 file with one prompt a line.")
        }
        return BatchPlan.prompts(ofText: text)
    }
}

/// How to reach the language model that rewrites prompts; without a base URL the stage does not exist.
package struct UpsamplerOptions: ParsableArguments {
    @Option(help: "Base URL of an OpenAI-compatible chat endpoint; turns the prompt upsampler on.")
    package var upsamplerBaseUrl: String?

    @Option(help: "Model name at that endpoint.")
    package var upsamplerModel: String?

    @Option(help: "Name of the model there that sees pictures, for --caption-of. [default: --upsampler-model]")
    package var captionModel: String?

    @Option(help: "File with what that model is asked about a clip's frames. [default: after the paper's appendix]")
    package var captionPrompt: String?

    package init() {}

    /// Arguments for `zoetrope-prompt-upsampler`; its key comes from ZOETROPE_UPSAMPLER_API_KEY.
    package var arguments: [String]? {
        guard let upsamplerBaseUrl else { return nil }
        return ["--base-url", upsamplerBaseUrl] + (upsamplerModel.map { ["--chat-model", $0] } ?? [])
            + (captionModel.map { ["--caption-model", $0] } ?? [])
            + (captionPrompt.map { ["--caption-prompt", $0] } ?? [])
    }
}
