import Dispatch
import Failure
import Foundation
import Glibc

/// What the commands print: results on stdout, notes on stderr.
enum Console {
    static var isTerminal: Bool { isatty(STDOUT_FILENO) == 1 }

    static func print(_ text: String) { write(text + "\n") }

    /// Text of others without characters that a terminal would obey.
    static func plain(_ text: String) -> String {
        String(
            String.UnicodeScalarView(text.unicodeScalars.map { $0.properties.generalCategory == .control ? " " : $0 }))
    }

    static func write(_ text: String) { put(text, STDOUT_FILENO) }

    static func note(_ text: String) { put(text + "\n", STDERR_FILENO) }

    /// Replaces the line that the cursor is on; the cursor stays there.
    static func noteInPlace(_ text: String) { put("\r\u{1b}[K\(text)", STDERR_FILENO) }

    static func milliseconds(_ duration: Duration) -> Int {
        Int(duration.components.seconds * 1000 + duration.components.attoseconds / 1_000_000_000_000_000)
    }

    static func seconds(_ duration: Duration) -> String { ProgressDisplay.duration(milliseconds(duration)) }

    private static func put(_ text: String, _ descriptor: Int32) {
        let bytes = Array(text.utf8)
        _ = bytes.withUnsafeBytes { Glibc.write(descriptor, $0.baseAddress, $0.count) }
    }
}

/// Ctrl-C and SIGTERM: the cluster stops before the command does.
enum Interruption {
    static func stopping(_ supervisor: ClusterSupervisor, _ body: () async throws -> Void) async throws {
        let sources = [SIGINT, SIGTERM].map { number in
            signal(number, SIG_IGN)
            let source = DispatchSource.makeSignalSource(signal: number, queue: .global())
            source.setEventHandler {
                Task {
                    await supervisor.stop()
                    Console.note("stopped")
                    exit(128 + number)
                }
            }
            source.resume()
            return source
        }
        defer { sources.forEach { $0.cancel() } }
        try await body()
    }
}

/// A private folder for one cluster: sockets, ledger, stored tensors, logs.
struct Workspace: Sendable {
    let root: String
    var runDirectory: String { "\(root)/run" }
    var dataDirectory: String { "\(root)/data" }
    var logs: String { "\(root)/logs" }

    static func temporary() throws(Failure) -> Workspace {
        let root = "/tmp/zoetrope-\(getpid())-\(UInt32.random(in: 0 ... .max))"
        do {
            for folder in ["run", "data", "logs"] {
                try FileManager.default.createDirectory(
                    atPath: "\(root)/\(folder)", withIntermediateDirectories: true,
                    attributes: [.posixPermissions: 0o700])
            }
        } catch {
            throw Failure("workspace_unusable", "cannot make \(root): \(error.localizedDescription)")
        }
        return Workspace(root: root)
    }

    func remove() { try? FileManager.default.removeItem(atPath: root) }
}
