package import ArgumentParser
import Failure
import Foundation

/// `zoetrope reencode ID`: another file from the latents that a job has left, without denoising again.
package struct ReencodeCommand: AsyncParsableCommand {
    package static let configuration = CommandConfiguration(
        commandName: "reencode",
        abstract: "Make another file of a job's latents, and print the new job's id.",
        discussion: "Only the decoder and the muxer run. A job's latents are kept as long as the job.")

    @Argument(help: "Job id.") package var id: String
    @Option(help: "mp4, webm, gif or mkv. [default: as the job's]") package var format: String?
    @Option(help: "Frames per second. [default: as the job's]") package var fps: Int?
    @Flag(help: "Decode in overlapping tiles, which needs less memory and is not exact. [default: as the job's]")
    package var vaeTiling = false
    @Option(help: "The same key and request never make a second job.") package var idempotencyKey: String?
    @OptionGroup package var connection: ServerOptions

    package init() {}

    package func run() async throws {
        var fields: [String: Any] = [:]
        fields["container"] = format
        fields["fps"] = fps
        if vaeTiling { fields["vae_tiling"] = true }
        let client = try GatewayClient(server: connection.server)
        let job = try await client.reencode(
            id, JSONSerialization.data(withJSONObject: fields), idempotencyKey: idempotencyKey)
        Console.print(job.id)
    }
}
