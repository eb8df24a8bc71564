package import ArgumentParser
import Checkpoint
import DemoModel
import Failure
import Foundation
import Media
import Model
import Request
package import Runtime
import Tensor

/// `zoetrope replay FILE`: makes a video again from what its file says about itself.
package struct ReplayCommand: AsyncParsableCommand {
    package static let configuration = CommandConfiguration(
        commandName: "replay", abstract: "Make a video again from its own file, and say whether it is the same.",
        discussion: """
            Every file that zoetrope writes says how it was made. Pictures and clips that a video began with are not in \
            it: give them again. The command fails when the new video is not the old one.
            """)

    @Argument(help: "An mp4, webm, mkv or gif that zoetrope made.") package var file: String

    @Flag(help: "Print what the file says about itself, and make nothing.") package var show = false

    @Option(help: "File to write. [default: FILE with .replay before its extension]") package var output: String?

    @Option(help: "Folder of the CogVideoX model. [default: the built-in demo model]") package var model: String?

    @Option(help: "The picture that the video began with.") package var image: String?
    @Option(help: "The clip that it was made of.") package var video: String?
    @Option(help: "The clip that it followed.") package var controlVideo: String?
    @Option(help: "The latents that it started from.") package var initLatents: String?

    @Option(help: "Folder of the adapters that the video was made with, under the names that it says.")
    package var adapters: String?

    @Option(help: "A gateway to ask instead of starting processes of our own.") package var server: String?

    @Option(help: "With --server: from -100 to 100; higher goes first.") package var priority = 0

    @Option(help: "How long the video is wanted, such as 90s, 10m or 1h30m.") package var deadline: TimeSpan?

    @Option(help: "Threads a worker uses. [default: one for each CPU it may use]") package var threads: Int?

    @OptionGroup package var logging: LoggingOptions

    package init() {}

    package func validate() throws {
        if server != nil, model != nil || threads != nil || adapters != nil {
            throw ValidationError(
                "--model, --adapters and --threads are of processes of our own, and --server asks others.")
        }
    }

    private var media: [(field: String, path: String)] {
        [("image", image), ("video", video), ("control_video", controlVideo)].compactMap { field, path in
            path.map { (field, $0) }
        }
    }

    package func run() async throws {
        if show { return try print(try ReplaySource.manifest(of: file)) }
        let source = try ReplaySource(path: file, media: media, latentsPath: initLatents)
        let files = try outputs(source.manifest)
        if let server {
            try await ask(server, source, files)
        } else {
            try await runHere(source, files)
        }
        let comparison = try Self.compare(file, files.main, source.manifest)
        for line in comparison.report { Console.print(line) }
        try comparison.check()
    }

    private func print(_ manifest: VideoManifest) throws {
        let encoder = JSONEncoder()
        // Every control character of foreign text leaves as an escape.
        encoder.outputFormatting = [.prettyPrinted, .sortedKeys, .withoutEscapingSlashes]
        Console.print(String(decoding: try encoder.encode(manifest), as: UTF8.self))
    }

    private func outputs(_ manifest: VideoManifest) throws(Failure) -> OutputFiles {
        let container = manifest.request.container.rawValue
        let beside = URL(fileURLWithPath: file).deletingPathExtension().path + ".replay.\(container)"
        let files = try OutputFiles(output: output ?? beside, contactSheet: nil, outputType: "video")
        guard files.container == container else {
            throw Failure(
                "container_unknown", "\(files.main) is no \(container), and the video is one.", field: "output",
                remedy: "Let --output end in .\(container).")
        }
        guard URL(fileURLWithPath: files.main).standardizedFileURL != URL(fileURLWithPath: file).standardizedFileURL
        else {
            throw Failure(
                "output_unwritable", "\(files.main) is the file that is to be made again.", field: "output",
                remedy: "Choose another name.")
        }
        return files
    }

    // MARK: Making it again

    /// The same way as `zoetrope generate`, checks included.
    private func runHere(_ source: ReplaySource, _ files: OutputFiles) async throws {
        let began = ContinuousClock.now
        let folder = try ModelFolder(path: try model ?? DemoModel.path())
        let traits = try ModelTraits(folder: folder)
        var source = source
        let media = source.media
        let request = try RequestDraft(json: JSONSerialization.data(withJSONObject: source.fields))
            .resolved(for: traits, sourceFrames: try media.clipFrames(rate: source.sourceFramesPerSecond))
        let latents = try source.latents(shape: traits.latentShape(for: request))
        source.compare(with: traits)
        let shapes = Transformer3D.expectedWeights(folder.transformer)
        try source.compare(
            with: adapters.map { (path) throws(Failure) in try AdapterLibrary(path: path, shapes: shapes) })
        for line in source.expectation { Console.print(line) }
        var fields = source.fields
        fields["output_type"] = "video"
        try await PrivateCluster.with(
            folder,
            configure: { plan, _ in
                plan.threads = threads
                plan.leaseSeconds = 5
                plan.logLevel = logging.logLevel
                plan.logFormat = logging.logFormat
                plan.adapters = adapters
                plan.workers = ["vae-decoder": request.decodeWorkers ?? 1]
            }
        ) { [fields] plan, supervisor in
            try await GenerateRun(
                plan: plan, supervisor: supervisor, request: request, traits: traits, fields: fields, files: files,
                latents: latents, media: media, intermediates: nil, deadline: deadline, began: began
            ).perform()
        }
    }

    /// By a gateway, which checks it like any request.
    private func ask(_ server: String, _ source: ReplaySource, _ files: OutputFiles) async throws {
        let client = try GatewayClient(server: server)
        for line in source.expectation { Console.print(line) }
        var body = source.fields
        body.merge(try await source.media.upload(to: client)) { $1 }
        if let initLatents {
            body["init_latents"] = try await client.upload(Self.onlyTensor(of: initLatents), name: "init_latents")
        }
        let request = try JSONSerialization.data(withJSONObject: body)
        let job: VideoStatus
        do throws(Failure) {
            job = try await client.create(
                request, idempotencyKey: UUID().uuidString, priority: priority, deadline: deadline)
        } catch {
            throw source.explained(error)
        }
        Console.print(job.id)
        var display = ProgressDisplay(isTerminal: Console.isTerminal) { Console.write($0) }
        for try await status in client.watch(job.id) {
            display.show(status)
            if let problem = status.error { throw Failure(problem.code, problem.message) }
        }
        try OutputFiles.write(try await client.content(job.id, variant: "video"), to: files.main)
        Console.print("  wrote \(files.main)")
    }

    /// The gateway knows which shape is right.
    private static func onlyTensor(of path: String) throws(Failure) -> Tensor {
        let file = try SafetensorsFile(path: path)
        let name = file.names.contains("latents") ? "latents" : file.names.first ?? "latents"
        return try LatentsFile.read(path: path, shape: try file.tensor(name).shape)
    }

    // MARK: Comparing

    private static func compare(
        _ original: String, _ replay: String, _ manifest: VideoManifest
    ) throws(Failure) -> ReplayComparison {
        let areEqual = FileManager.default.contentsEqual(atPath: original, andPath: replay)
        return try ReplayComparison(
            original: manifest, replay: try ReplaySource.manifest(of: replay), areFilesEqual: areEqual,
            pictureDistance: areEqual ? nil : try pictureDistance(original, replay))
    }

    /// The mean difference of the two files' pictures, frame by frame; 255 where they are of other sizes or numbers.
    private static func pictureDistance(_ first: String, _ second: String) throws(Failure) -> Double {
        let readers = (try VideoReader(path: first), try VideoReader(path: second))
        var sum = 0.0, count = 0
        while true {
            let frames = (try readers.0.nextFrame(), try readers.1.nextFrame())
            guard let left = frames.0, let right = frames.1 else {
                return frames.0 == nil && frames.1 == nil && count > 0 ? sum / Double(count) : 255
            }
            guard left.shape == right.shape else { return 255 }
            left.withUnsafeBytes { left in
                right.withUnsafeBytes { right in
                    var total = 0
                    for index in left.indices { total += abs(Int(left[index]) - Int(right[index])) }
                    sum += Double(total)
                    count += left.count
                }
            }
        }
    }
}
