import Failure
import Foundation

/// One thing to time: its name is also the line the peer understands.
struct BenchCase {
    let name: String
    /// Multiplications and additions of one run; 0 where a rate would say nothing.
    let operations: Double
    let run: () throws -> Void
}

/// The timings of one case, ours and the peer's taken in turn.
struct Row {
    private let name: String
    private let operations: Double
    private let ours: [Double]
    private let theirs: [Double]

    init(_ item: BenchCase, rounds: Int, peer: Peer?) throws {
        name = item.name.split(separator: " ").map { $0.split(separator: "/").last ?? $0 }.joined(separator: " ")
        operations = item.operations
        try item.run()
        var ours: [Double] = []
        var theirs: [Double] = []
        for _ in 0..<rounds {
            let start = ContinuousClock.now
            try item.run()
            let elapsed = ContinuousClock.now - start
            ours.append(Double(elapsed.components.seconds) + Double(elapsed.components.attoseconds) * 1e-18)
            if let peer { theirs.append(try peer.seconds(item.name)) }
        }
        self.ours = ours.sorted()
        self.theirs = theirs.sorted()
    }

    static func header(withPeer: Bool) -> String {
        let columns = ["case".padding(toLength: 44, withPad: " ", startingAt: 0), "    ms [min…max]", "  GFLOP/s"]
        return (columns + (withPeer ? ["   peer ms", "  ratio"] : [])).joined(separator: " ")
    }

    var line: String {
        let median = ours[ours.count / 2]
        var text = name.padding(toLength: 44, withPad: " ", startingAt: 0)
        text += String(format: " %8.2f [%.2f…%.2f]", median * 1e3, ours[0] * 1e3, ours[ours.count - 1] * 1e3)
        text += operations > 0 ? String(format: " %8.0f", operations / median / 1e9) : "        –"
        if !theirs.isEmpty {
            let peerMedian = theirs[theirs.count / 2]
            text += String(format: " %10.2f %6.2f×", peerMedian * 1e3, peerMedian / median)
        }
        return text
    }
}

enum Memory {
    /// The most memory this process has held, in MB, from `/proc/self/status`.
    static var peakMegabytes: Int {
        let status = (try? String(contentsOfFile: "/proc/self/status", encoding: .utf8)) ?? ""
        let line = status.split(separator: "\n").first { $0.hasPrefix("VmHWM:") } ?? ""
        return (line.split(separator: " ").dropFirst().first.flatMap { Int($0) } ?? 0) / 1024
    }
}
