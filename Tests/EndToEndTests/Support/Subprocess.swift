import Foundation
import Testing

/// The built executables: beside the test binary, or in the folder that ZOETROPE_BIN names.
enum Executables {
    static func path(_ name: String) throws -> String {
        let folder =
            if let named = ProcessInfo.processInfo.environment["ZOETROPE_BIN"] {
                URL(fileURLWithPath: named)
            } else {
                URL(fileURLWithPath: try FileManager.default.destinationOfSymbolicLink(atPath: "/proc/self/exe"))
                    .deletingLastPathComponent()
            }
        let path = folder.appendingPathComponent(name).path
        try #require(
            FileManager.default.isExecutableFile(atPath: path), "\(path) is not built: run `make build` or `make test`")
        return path
    }

    /// A system program, or nil where it is not installed.
    static func system(_ name: String) -> String? {
        let path = ProcessInfo.processInfo.environment["PATH"] ?? ""
        let folders: [String] = path.split(separator: ":").map(String.init) + ["/usr/sbin", "/sbin"]
        return folders.map { "\($0)/\(name)" }.first { FileManager.default.isExecutableFile(atPath: $0) }
    }

    /// This process's environment without settings of the developer's shell that would reach the services.
    static var environment: [String: String] {
        ProcessInfo.processInfo.environment.filter { name, _ in
            !name.hasPrefix("ZOETROPE_") && name != "OPENBLAS_CORETYPE" && name != "OPENBLAS_L2_SIZE"
        }
    }
}

/// A folder under /tmp (socket paths must be short) that is removed with this object.
final class TemporaryFolder: Sendable {
    let path: String

    init() throws {
        path = "/tmp/zt-\(UInt32.random(in: 0 ... .max))"
        try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
    }

    deinit { try? FileManager.default.removeItem(atPath: path) }

    func file(_ name: String) -> String { "\(path)/\(name)" }
}

/// How a finished program ended and what it wrote.
struct CommandResult: Sendable {
    let status: Int32
    let output: String
    let errors: String

    var everything: String { output + errors }
}

/// One running program whose output goes to files, so that no full pipe can stop it.
final class Subprocess: Sendable {
    let process: Process
    let log: String
    private let errorLog: String
    private let ending: AsyncStream<Int32>

    init(
        _ executable: String, _ arguments: [String], in folder: TemporaryFolder, name: String = "command",
        environment: [String: String] = [:]
    ) throws {
        process = Process()
        log = folder.file("\(name).out")
        errorLog = folder.file("\(name).err")
        for path in [log, errorLog] { _ = FileManager.default.createFile(atPath: path, contents: nil) }
        process.executableURL = URL(fileURLWithPath: executable)
        process.arguments = arguments
        process.currentDirectoryURL = URL(fileURLWithPath: folder.path)
        process.environment = Executables.environment.merging(environment) { _, new in new }
        process.standardInput = FileHandle.nullDevice
        process.standardOutput = FileHandle(forWritingAtPath: log)
        process.standardError = FileHandle(forWritingAtPath: errorLog)
        let (ending, continuation) = AsyncStream.makeStream(of: Int32.self)
        self.ending = ending
        process.terminationHandler = { ended in
            continuation.yield(
                ended.terminationReason == .exit ? ended.terminationStatus : 128 + ended.terminationStatus)
            continuation.finish()
        }
        // A program inherits the mask of the thread that starts it, and threads of Swift's pools block SIGTERM.
        var none = sigset_t()
        var before = sigset_t()
        sigemptyset(&none)
        pthread_sigmask(SIG_SETMASK, &none, &before)
        defer { pthread_sigmask(SIG_SETMASK, &before, nil) }
        try process.run()
    }

    var identifier: Int32 { process.processIdentifier }

    var output: String { (try? String(contentsOfFile: log, encoding: .utf8)) ?? "" }

    var errors: String { (try? String(contentsOfFile: errorLog, encoding: .utf8)) ?? "" }

    func send(_ signal: Int32) { kill(identifier, signal) }

    /// Waits for the end; a program that is still running after `timeout` is stopped and the test fails.
    func result(timeout: Duration) async throws -> CommandResult {
        let watchdog = Task {
            try await Task.sleep(for: timeout)
            Issue.record("\(process.arguments ?? []) still runs after \(timeout); so far: \(output)\(errors)")
            // First politely, so that a script can remove what it made.
            kill(process.processIdentifier, SIGTERM)
            try await Task.sleep(for: .seconds(10))
            kill(process.processIdentifier, SIGKILL)
        }
        defer { watchdog.cancel() }
        var status: Int32 = -1
        for await value in ending { status = value }
        // The test was cancelled by its time limit; nothing may outlive it.
        if process.isRunning { kill(process.processIdentifier, SIGTERM) }
        return CommandResult(status: status, output: output, errors: errors)
    }
}

/// Runs one of our executables to its end.
func run(
    _ name: String, _ arguments: [String], in folder: TemporaryFolder, environment: [String: String] = [:],
    timeout: Duration = .seconds(180)
) async throws -> CommandResult {
    try await Subprocess(Executables.path(name), arguments, in: folder, environment: environment)
        .result(timeout: timeout)
}

/// Runs `zoetrope generate` and requires that it succeeds.
@discardableResult
func generate(
    _ arguments: [String], in folder: TemporaryFolder, environment: [String: String] = [:]
) async throws -> CommandResult {
    let result = try await run("zoetrope", ["generate"] + arguments, in: folder, environment: environment)
    try #require(result.status == 0, "generate \(arguments) ended with \(result.status):\n\(result.everything)")
    return result
}
