import Failure
import Foundation

/// The timings of one case, ours and the peer's taken in turn.
struct Row {
    let item: BenchCase
    private let ours: [Double]
    private let theirs: [Double]
    private let memory: Int
    private let peerMemory: Int

    /// Rates of products of this type count towards the machine's peak.
    var peakRate: Double { item.name.hasPrefix("gemm") ? max(rate(ours), rate(theirs)) : 0 }

    init(_ item: BenchCase, rounds: Int, ours us: [String], peer: [String]?) throws {
        self.item = item
        var ours: [Double] = []
        var theirs: [Double] = []
        let wanted = item.isHeavy ? 1 : rounds
        var first: Side? = try Side(us[0], Array(us.dropFirst()))
        if item.isWarmed { _ = try first?.seconds(item.name) }
        var second: Side?
        var memory = 0
        for round in 0..<wanted {
            if let time = try first?.seconds(item.name) { ours.append(time) }
            memory = first?.peakMegabytes ?? 0
            // Heavy cases do not share the memory.
            if item.isHeavy { first = nil }
            if let name = item.peer, let peer {
                if round == 0 { second = try Side(peer[0], Array(peer.dropFirst())) }
                if round == 0, item.isWarmed { _ = try second?.seconds(name) }
                if let time = try second?.seconds(name) { theirs.append(time) }
            }
        }
        self.ours = ours.sorted()
        self.theirs = theirs.sorted()
        self.memory = memory
        peerMemory = second?.peakMegabytes ?? 0
    }

    private func median(_ times: [Double]) -> Double { times.isEmpty ? 0 : times[times.count / 2] }
    private func rate(_ times: [Double]) -> Double {
        times.isEmpty || item.operations == 0 ? 0 : item.operations / median(times) / 1e9
    }

    static func header(withPeer: Bool) -> String {
        let columns = [
            "case".padding(toLength: 34, withPad: " ", startingAt: 0), "   ms [min…max]", " GFLOP/s peak    MB",
        ]
        return (columns + (withPeer ? ["   peer ms GFLOP/s    MB  ratio"] : [])).joined(separator: " ")
    }

    /// - Parameter peak: GFLOP/s of the case's type.
    func line(peak: Double) -> String {
        func cell(_ format: String, _ value: Double) -> String { String(format: format, value) }
        var text = item.name.padding(toLength: 34, withPad: " ", startingAt: 0)
        text += String(format: " %9.1f [%.1f…%.1f]", median(ours) * 1e3, ours[0] * 1e3, ours[ours.count - 1] * 1e3)
        text += item.operations > 0 ? cell(" %7.0f", rate(ours)) : "       –"
        text += item.operations > 0 && peak > 0 ? cell(" %3.0f%%", 100 * rate(ours) / peak) : "    –"
        text += String(format: " %6d", memory)
        guard !theirs.isEmpty else { return text }
        text += cell(" %10.1f", median(theirs) * 1e3)
        text += item.operations > 0 ? cell(" %7.0f", rate(theirs)) : "       –"
        return text + String(format: " %6d", peerMemory) + cell(" %5.2f×", median(theirs) / median(ours))
    }
}
