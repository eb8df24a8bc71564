import ArgumentParser
import Bus
import Failure
import Foundation
import Runtime
import Wire

/// `zoetrope-bus-bench`: the data plane between two processes over every way it has, beside bare ZeroMQ; round trips
/// through a broker; commits of a ledger. All ways take turns, so that whatever else the machine does hits all of them.
struct BusBenchCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(commandName: "zoetrope-bus-bench")

    @Option(help: "Times that each blob is moved over each way.")
    var rounds = 15

    @Option(help: "Sizes of the blobs, in KiB.")
    var sizes: [Int] = [64, 1024, 16_384, 65_536]

    @Option(help: "Folder on the disk that ledgers are to be measured on.")
    var directory = NSTemporaryDirectory()

    @Option(help: "data, control, ledger, or all.")
    var only = "all"

    @Option(help: .hidden) var hold: String?

    @Option(help: .hidden) var answer: String?

    @OptionGroup var logging: LoggingOptions

    func validate() throws {
        guard rounds > 0, sizes.allSatisfy({ (1...1 << 20).contains($0) }) else {
            throw ValidationError("--rounds must be above 0, --sizes within 1 and 1048576.")
        }
    }

    func run() async throws {
        let bytes = sizes.map { $0 << 10 }
        if let hold { return try await BlobHolder.run(hold, sizes: bytes) }
        if let answer { return try BareChild.run(answer) }
        let folder = "\(directory)/zoetrope-bus-bench-\(getpid())"
        try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(atPath: folder) }
        if only == "all" || only == "data" {
            try await DataBench(sizes: bytes, rounds: rounds).run()
        }
        if only == "all" || only == "control" { try await ControlBench(folder: folder).run() }
        if only == "all" || only == "ledger" { try await LedgerBench(folder: folder).run() }
    }
}

@main
struct BusBenchMain {
    static func main() async { await Launch.run(BusBenchCommand.self, service: "bus-bench") }
}

/// A process of this executable with other options; the end of its input ends it.
final class Child {
    private let process = Process()
    private let input = Pipe()
    private let output = Pipe()

    init(_ arguments: [String], executable: String = CommandLine.arguments[0]) throws {
        process.executableURL = URL(fileURLWithPath: executable)
        process.arguments = arguments
        process.standardInput = input
        process.standardOutput = output
        try process.run()
    }

    /// The next line it prints.
    func line() throws -> String {
        var bytes: [UInt8] = []
        while let byte = output.fileHandleForReading.readData(ofLength: 1).first {
            if byte == UInt8(ascii: "\n") { return String(decoding: bytes, as: UTF8.self) }
            bytes.append(byte)
        }
        throw Failure("bench_child_ended", "a process of the benchmark ended: \(process.arguments ?? [])")
    }

    /// User and system time so far, in seconds.
    var processorSeconds: Double {
        let stat = (try? String(contentsOfFile: "/proc/\(process.processIdentifier)/stat", encoding: .utf8)) ?? ""
        let fields = stat[(stat.lastIndex(of: ")") ?? stat.startIndex)...].split(separator: " ")
        guard fields.count > 12, let user = Double(fields[12]), let system = Double(fields[13]) else { return 0 }
        return (user + system) / Double(sysconf(Int32(_SC_CLK_TCK)))
    }

    deinit {
        try? input.fileHandleForWriting.close()
        kill(process.processIdentifier, SIGKILL)
        process.waitUntilExit()
    }
}

enum Numbers {
    static func seconds(_ body: () async throws -> Void) async rethrows -> Double {
        let start = ContinuousClock.now
        try await body()
        let elapsed = (ContinuousClock.now - start).components
        return Double(elapsed.seconds) + Double(elapsed.attoseconds) * 1e-18
    }

    /// The value below which `share` of the samples lie.
    static func quantile(_ samples: [Double], _ share: Double) -> Double {
        let sorted = samples.sorted()
        return sorted.isEmpty ? 0 : sorted[min(sorted.count - 1, Int(Double(sorted.count) * share))]
    }

    static func size(_ bytes: Int) -> String { bytes < 1 << 20 ? "\(bytes >> 10) KiB" : "\(bytes >> 20) MiB" }
}
