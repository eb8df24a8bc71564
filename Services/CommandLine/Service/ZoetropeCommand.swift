package import ArgumentParser
import Runtime

/// The `zoetrope` command.
package struct ZoetropeCommand: AsyncParsableCommand {
    package static let configuration = CommandConfiguration(
        commandName: "zoetrope", abstract: "CogVideoX text-to-video from separate services on a message bus.",
        version: ServiceVersion.current,
        subcommands: [
            GenerateCommand.self, ServeCommand.self, SubmitCommand.self, StatusCommand.self, WatchCommand.self,
            CancelCommand.self, FetchCommand.self, ReencodeCommand.self, ContinueCommand.self, DrainCommand.self,
            DeadCommand.self, ModelsCommand.self, KeysCommand.self, ReplayCommand.self,
        ])

    package init() {}
}
