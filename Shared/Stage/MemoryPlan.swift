package import Failure
import FoundationEssentials

/// What a stage keeps and needs, known before it starts (architecture rule: memory is designed, not discovered).
package struct MemoryPlan: Sendable, Hashable, CustomStringConvertible {
    /// One part: weights, activations.
    package struct Entry: Sendable, Hashable {
        package var name: String
        package var byteCount: Int
    }

    /// In the order they were given.
    package private(set) var entries: [Entry]

    /// A plan of named parts in bytes: `["weights": …, "activations at the native size": …]`.
    package init(_ parts: KeyValuePairs<String, Int>) {
        entries = parts.map { Entry(name: $0.key, byteCount: $0.value) }
    }

    /// Bytes of all parts.
    package var total: Int { entries.reduce(0) { $0 + $1.byteCount } }

    /// `weights 10.1 GB + activations 1.2 GB = 11.3 GB`.
    package var description: String {
        guard !entries.isEmpty else { return "little" }
        let parts = entries.map { "\($0.name) \(Self.readable($0.byteCount))" }.joined(separator: " + ")
        return entries.count == 1 ? parts : "\(parts) = \(Self.readable(total))"
    }

    /// `512 MB`, `11.3 GB`.
    package static func readable(_ bytes: Int) -> String {
        guard bytes >= 1_000_000_000 else { return "\((bytes + 999_999) / 1_000_000) MB" }
        let tenths = (bytes + 50_000_000) / 100_000_000
        return "\(tenths / 10).\(tenths % 10) GB"
    }
}

/// How much memory this worker may use.
package struct MemoryBudget: Sendable, Hashable {
    /// Bytes.
    package let limit: Int

    /// - Parameter limit: bytes; nil takes the machine's memory or the control group's limit, whichever is less.
    package init(limit: Int?) {
        self.limit = limit ?? min(Self.machineMemory, Self.controlGroupLimit ?? .max)
    }

    /// Bytes that a worker keeps of what others have yet to fetch; beyond them the oldest goes.
    package var outputs: Int { max(64 << 20, limit / 4) }

    /// Fails with `memory_insufficient` (another, bigger worker may try) when `needed` bytes exceed the limit.
    ///
    /// - Parameter remedy: what else to do about it.
    package func check(
        _ needed: Int, for what: String, remedy: String = "Ask for a smaller size or fewer frames"
    ) throws(Failure) {
        guard needed > limit else { return }
        throw Failure(
            "memory_insufficient",
            "\(what) needs about \(MemoryPlan.readable(needed)) and this worker may use \(MemoryPlan.readable(limit))",
            field: "memory-limit", remedy: "\(remedy), or give the worker more memory.",
            retry: .biggerWorker)
    }

    private static var machineMemory: Int { Int(clamping: ProcessInfo.processInfo.physicalMemory) }

    private static var controlGroupLimit: Int? {
        guard let text = try? String(contentsOfFile: "/sys/fs/cgroup/memory.max", encoding: .utf8) else { return nil }
        return Int(text.filter { $0.isNumber })
    }
}
