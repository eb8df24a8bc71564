import Failure
import Foundation

/// One side of the comparison as a process: a line names a case, the answer is the seconds of one run and the most
/// memory that the process has held, in megabytes.
final class Side {
    private let process = Process()
    private let input = Pipe()
    private let output = Pipe()
    /// Megabytes, as of the latest answer.
    private(set) var peakMegabytes = 0

    init(_ executable: String, _ arguments: [String]) throws(Failure) {
        process.executableURL = URL(fileURLWithPath: executable)
        process.arguments = arguments
        process.standardInput = input
        process.standardOutput = output
        process.standardError = FileHandle.nullDevice
        var environment = ProcessInfo.processInfo.environment
        // Settings of a developer's shell that would slow either side.
        for name in ["OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE"] { environment[name] = nil }
        process.environment = environment
        do {
            try process.run()
        } catch {
            throw Failure(
                "peer_unavailable", "cannot start \(executable): \(error)",
                remedy: "Name a Python with torch, diffusers and transformers.")
        }
    }

    /// Seconds of one run of `name`. The first one of a case also prepares it, outside the time.
    func seconds(_ name: String) throws(Failure) -> Double {
        input.fileHandleForWriting.write(Data((name + "\n").utf8))
        var line: [UInt8] = []
        while let byte = output.fileHandleForReading.readData(ofLength: 1).first, byte != UInt8(ascii: "\n") {
            line.append(byte)
        }
        let words = String(decoding: line, as: UTF8.self).split(separator: " ")
        guard words.count == 2, let seconds = Double(words[0]), let peak = Int(words[1]) else {
            throw Failure("peer_failed", "a process ended or answered nonsense for \"\(name)\"")
        }
        peakMegabytes = peak
        return seconds
    }

    deinit {
        // The end of its input ends either program; a signal may be blocked in processes that Swift starts.
        try? input.fileHandleForWriting.close()
        process.waitUntilExit()
    }
}

enum Memory {
    /// What this process holds now, in bytes, from `/proc/self/statm`.
    static var residentBytes: Int {
        let pages = (try? String(contentsOfFile: "/proc/self/statm", encoding: .utf8)) ?? ""
        let resident = pages.split(separator: " ").dropFirst().first.flatMap { Int($0) } ?? 0
        return resident * Int(sysconf(Int32(_SC_PAGESIZE)))
    }

    /// The most memory this process has held, in MB, from `/proc/self/status`.
    static var peakMegabytes: Int {
        let status = (try? String(contentsOfFile: "/proc/self/status", encoding: .utf8)) ?? ""
        let line = status.split(separator: "\n").first { $0.hasPrefix("VmHWM:") } ?? ""
        return (line.split(separator: " ").dropFirst().first.flatMap { Int($0) } ?? 0) / 1024
    }
}
