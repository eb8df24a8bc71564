import Failure
import Foundation

/// The peer as one long-lived process: a line names a case, the answer is the seconds of one run.
final class Peer {
    private let process = Process()
    private let input = Pipe()
    private let output = Pipe()

    init(python: String, script: String) throws(Failure) {
        process.executableURL = URL(fileURLWithPath: python)
        process.arguments = [script]
        process.standardInput = input
        process.standardOutput = output
        process.standardError = FileHandle.nullDevice
        var environment = ProcessInfo.processInfo.environment
        // The peer gets its own libraries' defaults, not the quiet-thread settings this process runs with.
        for name in ["OMP_WAIT_POLICY", "OPENBLAS_NUM_THREADS", "OPENBLAS_THREAD_TIMEOUT"] { environment[name] = nil }
        process.environment = environment
        do {
            try process.run()
        } catch {
            throw Failure(
                "peer_unavailable", "cannot start \(python): \(error)",
                remedy: "Name a Python with torch and diffusers.")
        }
    }

    /// Seconds of one run of `name` at the peer.
    func seconds(_ name: String) throws(Failure) -> Double {
        input.fileHandleForWriting.write(Data((name + "\n").utf8))
        var line: [UInt8] = []
        while let byte = output.fileHandleForReading.readData(ofLength: 1).first, byte != UInt8(ascii: "\n") {
            line.append(byte)
        }
        guard let value = Double(String(decoding: line, as: UTF8.self)) else {
            throw Failure("peer_failed", "the peer ended or answered nonsense for \"\(name)\"")
        }
        return value
    }

    deinit { process.terminate() }
}
