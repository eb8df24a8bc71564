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
    ///
    /// - Parameter compute: whether this process multiplies matrices; it then runs with library threads that park
    ///   instead of spinning and with the library's own choice of kernels.
    package static func run<Command: AsyncParsableCommand>(
        _ command: Command.Type, service: String, compute: Bool
    ) async -> Never {
        signal(SIGPIPE, SIG_IGN)
        if compute { restartWithQuietThreadsIfNeeded() }
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
        let merged = try ConfigurationSources(helpMessage: help).merged(
            arguments: Array(arguments[depth...]), environment: ProcessInfo.processInfo.environment)
        return arguments[..<depth] + merged
    }

    /// libgomp and OpenBLAS read their variables while they load, so they must be there before the process starts
    /// (docs/performance.md): spinning library threads cost a third of the throughput.
    private static func restartWithQuietThreadsIfNeeded() {
        let wanted = ["OMP_WAIT_POLICY": "passive", "OPENBLAS_NUM_THREADS": "1", "OPENBLAS_THREAD_TIMEOUT": "4"]
        let unwanted = ["OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE"]
        let environment = ProcessInfo.processInfo.environment
        let ready =
            wanted.allSatisfy { environment[$0.key] == $0.value } && unwanted.allSatisfy { environment[$0] == nil }
        guard !ready else { return }
        for (name, value) in wanted { setenv(name, value, 1) }
        for name in unwanted { unsetenv(name) }
        var arguments = CommandLine.arguments.map { strdup($0) } + [nil]
        execv("/proc/self/exe", &arguments)
        report("warning: cannot restart with quiet library threads: \(String(cString: strerror(errno)))")
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
