import ArgumentParser
import Failure
import Foundation
import Runtime

/// `zoetrope-bench`: our numbers, and with `--peer` the peer's in turn (A B A B), as one table of medians, rates, shares
/// of the measured peak, memory and ratios.
struct BenchCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(commandName: "zoetrope-bench")

    @Option(help: "Python with torch, diffusers and transformers; runs the same shapes there in turn.")
    var peer: String?

    @Option(help: "The peer's program.")
    var peerScript = "Tests/Benchmarks/peer/peer.py"

    @Option(help: "Timed runs of each side; the heavy cases run once.")
    var rounds = 5

    @Option(help: "Threads of ours. [default: all cores]")
    var threads: Int?

    @Option(help: "Run only cases whose name contains this.")
    var only: String?

    @Flag(help: "Leave out the cases that take minutes.")
    var skipHeavy = false

    @Flag(help: "Print the names of the cases.")
    var list = false

    @Flag(help: "Compare the latents of bfloat16 and int8 with those of float32 after 50 steps instead.")
    var quality = false

    @Option(help: "Time the broker's decisions with so many queued jobs instead.")
    var queue: Int?

    @Option(help: "Tenants of those jobs.")
    var tenants = 50

    @Flag(help: "Answer case names on standard input with seconds and megabytes, as the peer does.")
    var serve = false

    @OptionGroup var logging: LoggingOptions

    func run() async throws {
        if serve { return try answer() }
        if let queue {
            guard queue > 0, tenants > 0 else { throw ValidationError("--queue and --tenants must be above 0.") }
            return QueueBench(jobs: queue, tenants: tenants).run()
        }
        if quality { return try Quality(threads: threads ?? 0).run() }
        let cases = BenchCase.all().filter {
            (only.map($0.name.contains) ?? true) && !(skipHeavy && $0.isHeavy)
        }
        if list { return print(cases.map { "\($0.name)\($0.isHeavy ? " (heavy)" : "")" }.joined(separator: "\n")) }
        let us = [CommandLine.arguments[0], "--serve", "--threads", "\(threads ?? 0)"]
        print("\(BenchRunner(threads: threads ?? 0).description), \(max(1, rounds)) rounds")
        print(Row.header(withPeer: peer != nil))
        var peaks: [String: Double] = [:]
        let start = ContinuousClock.now
        for (index, item) in cases.enumerated() {
            let words = item.name.split(separator: " ")
            let row = try Row(
                item, rounds: max(1, rounds), ours: us, peer: peer.map { [$0, peerScript] })
            let type = words.count > 1 ? String(words[1]) : ""
            peaks[type] = max(peaks[type] ?? 0, row.peakRate)
            print(row.line(peak: peaks[type] ?? 0))
            fflush(nil)
            let elapsed = (ContinuousClock.now - start).components.seconds
            FileHandle.standardError.write(Data("bench: \(index + 1) of \(cases.count), \(elapsed) s\n".utf8))
        }
        for (type, peak) in peaks.sorted(by: { $0.key < $1.key }) where peak > 0 {
            print(String(format: "best product in %@: %.0f GFLOP/s", type, peak))
        }
    }

    private func answer() throws {
        var runner = BenchRunner(threads: threads ?? 0)
        var prepared: [String: () throws -> Void] = [:]
        while let name = readLine() {
            if prepared[name] == nil { prepared[name] = try runner.prepared(name) }
            let start = ContinuousClock.now
            try prepared[name]?()
            let elapsed = (ContinuousClock.now - start).components
            let seconds = Double(elapsed.seconds) + Double(elapsed.attoseconds) * 1e-18
            print("\(seconds) \(Memory.peakMegabytes)")
            fflush(nil)
        }
    }
}

@main
struct BenchMain {
    static func main() async {
        await Launch.run(BenchCommand.self, service: "bench")
    }
}
