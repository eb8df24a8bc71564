import ArgumentParser
import Compute
import Runtime

/// `zoetrope-bench`: our numbers, and with `--peer` the peer's in turn (A B A B), as one table of medians and ratios.
struct BenchCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(commandName: "zoetrope-bench")

    @Option(help: "Python with torch and diffusers; runs the same shapes there in turn.")
    var peer: String?

    @Option(help: "The peer's program.")
    var peerScript = "Tests/Benchmarks/peer/peer.py"

    @Option(help: "Timed runs of each side.")
    var rounds = 5

    @Option(help: "Threads. [default: all cores]")
    var threads: Int?

    @Option(help: "Run only cases whose name contains this.")
    var only: String?

    @OptionGroup var logging: LoggingOptions

    func run() async throws {
        let backend = CPUBackend(threads: threads ?? 0)
        print("\(backend.description), \(rounds) rounds")
        let peer = try peer.map { python throws in try Peer(python: python, script: peerScript) }
        let cases = try BenchCases(backend: backend).all().filter { only == nil || $0.name.contains(only ?? "") }
        print(Row.header(withPeer: peer != nil))
        for item in cases { print(try Row(item, rounds: max(1, rounds), peer: peer).line) }
        print("peak resident memory \(Memory.peakMegabytes) MB")
    }
}

@main
struct BenchMain {
    static func main() async {
        await Launch.run(BenchCommand.self, service: "bench")
    }
}
