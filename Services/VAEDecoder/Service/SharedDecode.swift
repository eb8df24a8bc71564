import Bus
import Compute
import Failure
import Model
import Request
import Stage
import Tensor

/// A decode that this decoder leads and others help with, each computing its rows of the image.
///
/// A round is one attempt with one set of members. Whoever is lost ends the round, and the next one begins with those
/// that are left, at the last with the leader alone: causal caches are divided between the members, so there is no way
/// back into the middle.
struct SharedDecode {
    let task: StageTask
    let party: AssistanceParty
    let decoder: AutoencoderKLDecoder
    let latents: Tensor
    let dtype: Precision
    /// Fails when that many members are too few for this worker's memory; gives where caches wait.
    let prepare: (_ members: Int) throws(Failure) -> String?

    /// What a new round without the lost one may mend.
    private static let losses: Set<String> = ["assistant_lost", "assistant_silent"]

    /// Decodes; `frames` is called with the clip from its beginning in every round, after `begin`.
    ///
    /// - Returns: how many decoders made the clip, and sentences about who took part.
    func run(
        begin: () -> Void, frames: (Tensor) throws(Failure) -> Void
    ) throws(Failure) -> (members: Int, notes: [String]) {
        defer { party.leave() }
        var notes: [String] = [], round = 0, isAlone = false
        while true {
            round += 1
            let assistants = isAlone ? [] : Array(party.assistants.prefix(latents.shape[2] - 1))
            begin()
            do throws(Failure) {
                notes.append(try decode(round, [0] + assistants, frames))
                return (assistants.count + 1, notes)
            } catch {
                // Who does not agree about shapes will not do so in another round either.
                isAlone = error.code == "slab_mismatched"
                guard !assistants.isEmpty, isAlone || Self.losses.contains(error.code) else { throw error }
                notes.append("decode_restarted: \(error.message)")
                task.log(notes[notes.count - 1])
            }
        }
    }

    private func decode(
        _ round: Int, _ seats: [Int], _ frames: (Tensor) throws(Failure) -> Void
    ) throws(Failure) -> String {
        let cacheDirectory = try prepare(seats.count)
        guard seats.count > 1 else {
            try decoder.decode(
                latents: latents, cacheDirectory: cacheDirectory, progress: report, frames: frames)
            return "decoded by 1 decoder"
        }
        let start = ContinuousClock.now, sent = party.sentBytes
        party.begin(round: round, assistants: Array(seats.dropFirst()))
        let own = SlabOrder(seats: seats, member: 0, dtype: dtype, latents: latents)
        for member in seats.indices.dropFirst() {
            var order = own
            order.member = member
            party.send(
                try order.message(), AssistanceSubject(round: round, kind: SlabSubject.order.rawValue), from: 0,
                to: seats[member])
            party.send(
                latents, AssistanceSubject(round: round, kind: SlabSubject.latents.rawValue), from: 0,
                to: seats[member])
        }
        let task = task
        let exchange = PartyExchange(party: party, round: round, order: own) { () throws(Failure) in
            try task.checkCancelled()
        }
        var run = try decoder.run(
            latents: latents, cacheDirectory: cacheDirectory,
            member: SlabMember(plan: own.plan, index: 0, exchange: exchange))
        while let rows = try run.next() {
            let chunk = run.chunksDone - 1
            var slabs = [rows]
            for member in seats.indices.dropFirst() {
                let height = own.plan.rows[member].count * rows.shape[1] / own.plan.rows[0].count
                slabs.append(try exchange.pixels(chunk: chunk, of: member, rows: height, like: rows))
            }
            try frames(Self.joined(slabs))
            try report(run.chunksDone, run.chunkCount)
        }
        let waited = exchange.waited / .seconds(1), all = start.duration(to: .now) / .seconds(1)
        task.log(
            "decoded by \(seats.count) decoders in \(Self.rounded(all)) s, of which the leader waited "
                + "\(Self.rounded(waited)) s; it sent \((party.sentBytes - sent + 999_999) / 1_000_000) MB")
        return "decoded by \(seats.count) decoders"
    }

    private func report(_ chunk: Int, _ chunks: Int) throws(Failure) {
        task.report(step: chunk, of: chunks)
        try task.checkCancelled()
    }

    /// Slabs `[t, rows, W, 3]`, from the top on, as `[t, H, W, 3]`.
    private static func joined(_ slabs: [Tensor]) -> Tensor {
        Tensor.stacked(
            (0..<slabs[0].shape[0]).map { frame in
                Tensor.concatenated(slabs.map { $0.rows(frame..<frame + 1).reshaped(Array($0.shape.dropFirst())) })
            })
    }

    private static func rounded(_ seconds: Double) -> Double { (seconds * 100).rounded() / 100 }
}
