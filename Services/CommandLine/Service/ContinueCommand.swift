package import ArgumentParser
import Failure
import Foundation

/// `zoetrope continue ID`: the rest of the steps of a draft.
package struct ContinueCommand: AsyncParsableCommand {
    package static let configuration = CommandConfiguration(
        commandName: "continue",
        abstract: "Finish a job that was submitted with --steps-until, and print the new job's id.",
        discussion: "The video is the same, bit for bit, as that of a job that did not stop.")

    @Argument(help: "Job id of the draft.") package var id: String
    @Option(help: "The same key never makes a second job.") package var idempotencyKey: String?
    @OptionGroup package var connection: ServerOptions

    package init() {}

    package func run() async throws {
        let client = try GatewayClient(server: connection.server)
        Console.print(try await client.proceed(id, idempotencyKey: idempotencyKey).id)
    }
}
