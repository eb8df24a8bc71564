import ArgumentParser
import Runtime
import Stage
import VideoMuxerService

@main
struct VideoMuxerMain {
    static func main() async {
        await Launch.run(VideoMuxerCommand.self, service: "video-muxer")
    }
}

struct VideoMuxerCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "zoetrope-video-muxer", abstract: "Turns frames into video files, contact sheets and thumbnails.",
        version: ServiceVersion.current)

    @Option(help: "Threads of the video encoder, 0 for its own choice.")
    var threads: Int = 0

    @OptionGroup var processors: CPUOptions
    @OptionGroup var worker: WorkerOptions
    @OptionGroup var logging: LoggingOptions

    func run() async throws {
        let cpus = try processors.bind()
        try await worker.serve(
            VideoMuxerHandler(threads: threads), settings: ["threads": "\(threads)"], cpus: cpus,
            logger: logging.logger(service: "video-muxer"))
    }
}
