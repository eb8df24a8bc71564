package import ArgumentParser
import Failure
import FoundationEssentials
import Glibc
package import Logging

/// What the logging flags say; every executable has them.
package struct LoggingOptions: ParsableArguments {
    @Option(help: "trace, debug, info, notice, warning, error or critical.")
    package var logLevel: String = "info"

    @Option(help: "text or json.")
    package var logFormat: String = "text"

    @Option(help: "JSON file of option names and values; flags and ZOETROPE_… variables override it.")
    package var config: String?

    package init() {}

    package func validate() throws {
        guard Logger.Level(rawValue: logLevel) != nil else {
            throw ValidationError(
                "--log-level \(logLevel) is none of trace, debug, info, notice, warning, error, critical.")
        }
        guard LogFormat(rawValue: logFormat) != nil else {
            throw ValidationError("--log-format \(logFormat) is neither text nor json.")
        }
    }

    /// A logger for `service` at the chosen level and format.
    package func logger(service: String) -> Logger {
        let level = Logger.Level(rawValue: logLevel) ?? .info
        let format = LogFormat(rawValue: logFormat) ?? .text
        return Logger(label: service) { LogOutput(label: $0, level: level, format: format) }
    }
}

/// The way every executable starts.
package enum Launch {
    /// Merges configuration, parses, runs `command` and exits: 0 done, 1 failed, 2 wrong usage.
    package static func run<Command: AsyncParsableCommand>(
        _ command: Command.Type, service: String
    ) async -> Never {
        signal(SIGPIPE, SIG_IGN)
        followSupervisor()
        do {
            let arguments = try mergedArguments(command, Array(CommandLine.arguments.dropFirst()))
            var parsed = try command.parseAsRoot(arguments)
            if var asynchronous = parsed as? any AsyncParsableCommand {
                try await asynchronous.run()
            } else {
                try parsed.run()
            }
            exit(0)
        } catch let failure as Failure {
            report("error: \(failure)")
            exit(1)
        } catch let code as ExitCode {
            exit(code.rawValue)
        } catch {
            let text = command.fullMessage(for: error)
            let code = command.exitCode(for: error)
            guard code != .success else {
                print(text)
                exit(0)
            }
            report(text)
            exit(code == .validationFailure ? 2 : 1)
        }
    }

    private static func mergedArguments<Command: ParsableCommand>(
        _ command: Command.Type, _ arguments: [String]
    ) throws(Failure) -> [String] {
        var leaf: any ParsableCommand.Type = command
        var depth = 0
        while depth < arguments.count,
            let next = leaf.configuration.subcommands.first(where: { $0._commandName == arguments[depth] })
        {
            leaf = next
            depth += 1
        }
        let help =
            depth == 0 ? command.helpMessage(includeHidden: true) : command.helpMessage(for: leaf, includeHidden: true)
        let actions = (leaf as? any ActingCommand.Type)?.actions ?? []
        let merged = try ConfigurationSources(helpMessage: help, except: actions).merged(
            arguments: Array(arguments[depth...]), environment: ProcessInfo.processInfo.environment)
        return arguments[..<depth] + merged
    }

    /// A process that `zoetrope generate` or `serve` started ends when that process is gone, however it died.
    private static func followSupervisor() {
        guard let text = ProcessInfo.processInfo.environment["ZOETROPE_SUPERVISOR_PID"], let supervisor = Int32(text)
        else {
            return
        }
        Task.detached {
            while getppid() == supervisor { try? await Task.sleep(for: .seconds(1)) }
            kill(getpid(), SIGTERM)
        }
    }

    private static func report(_ text: String) {
        let bytes = Array((text + "\n").utf8)
        _ = bytes.withUnsafeBytes { write(STDERR_FILENO, $0.baseAddress, $0.count) }
    }
}
