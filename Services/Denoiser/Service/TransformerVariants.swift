import Failure
import Model
import Request
import Synchronization

/// The transformers that a denoiser holds: one a precision, and copies with other adapters where memory allows.
///
/// A copy shares with the others every weight that its adapters leave alone. Where there is no room for one, the network
/// that is there is merged with the new adapters in place, part by part (ADR 0015). Loading and merging happen under a
/// lock, on compute threads; `warm` never waits for it.
final class TransformerVariants: Sendable {
    private struct Variant {
        let affinity: String
        var transformer: Transformer3D
        /// Bytes beyond what is shared with the network without adapters.
        var ownBytes: Int
    }

    /// More than so many of one precision are not kept, however small.
    private static let limit = 4

    /// By precision, the most recently used last.
    private let variants = Mutex<[Precision: [Variant]]>([:])
    private let announced = Mutex<[String]>([])

    /// The affinities of the tasks that could begin at once.
    var warm: [String] { announced.withLock { $0 } }

    /// The transformer of `parameters`' precision merged with `stack`.
    ///
    /// - Parameters:
    ///   - affinity: that of the task, which `stack` follows from.
    ///   - hasRoom: whether so many bytes may be held beside the networks' own.
    ///   - load: reads a network without adapters.
    func transformer(
        _ precision: Precision, _ stack: AdapterStack, affinity: String, hasRoom: (Int) -> Bool,
        load: () throws(Failure) -> Transformer3D
    ) throws(Failure) -> Transformer3D {
        try variants.withLock { (all: inout sending [Precision: [Variant]]) throws(Failure) -> Transformer3D in
            defer { announce(all) }
            if let index = all[precision]?.firstIndex(where: { $0.affinity == affinity }),
                let found = all[precision]?.remove(at: index)
            {
                all[precision, default: []].append(found)
                return found.transformer
            }
            var made = try source(precision, stack, in: &all, hasRoom: hasRoom, load: load)
            try made.adapt(to: stack)
            let own = made.changedBytes(stack)
            all[precision, default: []].append(Variant(affinity: affinity, transformer: made, ownBytes: own))
            return made
        }
    }

    /// What the new adapters are merged into: a copy of a network that stays, or the network itself, which does not.
    private func source(
        _ precision: Precision, _ stack: AdapterStack, in all: inout [Precision: [Variant]], hasRoom: (Int) -> Bool,
        load: () throws(Failure) -> Transformer3D
    ) throws(Failure) -> Transformer3D {
        var kept = all[precision] ?? []
        guard let newest = kept.last else { return try load() }
        let needed = newest.transformer.changedBytes(stack)
        func isTooMuch() -> Bool {
            let others = all.filter { $0.key != precision }.values.joined().reduce(0) { $0 + $1.ownBytes }
            return kept.count >= Self.limit || !hasRoom(others + kept.reduce(needed) { $0 + $1.ownBytes })
        }
        while kept.count > 1, isTooMuch() { kept.removeFirst() }
        guard isTooMuch() else {
            all[precision] = kept
            // Without adapters there is the least to pack anew.
            return (kept.first { $0.ownBytes == 0 } ?? kept[kept.count - 1]).transformer
        }
        // Nothing else may hold the network while its parts are replaced.
        let only = kept.removeLast().transformer
        all[precision] = nil
        return only
    }

    private func announce(_ all: [Precision: [Variant]]) {
        let names = all.values.flatMap { $0.map(\.affinity) }.sorted()
        announced.withLock { $0 = names }
    }
}
