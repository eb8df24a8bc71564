import Bus
import Failure
import Model
import Request
import Stage
import Tensor

/// A decoder that computes rows for another one's decode, round after round, until that one ends it.
struct DecodeAssistant {
    let assistance: StageAssistance
    /// Checks the memory for one of so many members, gives the decoder and where its caches wait.
    let prepare: (SlabOrder) throws(Failure) -> (decoder: AutoencoderKLDecoder, cacheDirectory: String?)

    func run() throws(Failure) {
        let assistance = assistance, party = assistance.party
        let check: @Sendable () throws(Failure) -> Void = { () throws(Failure) in try assistance.checkCancelled() }
        var done = 0
        while true {
            let (round, message) = try party.nextRound(after: done, kind: SlabSubject.order.rawValue, check: check)
            done = round
            do throws(Failure) {
                try compute(round, try SlabOrder(message: message), check)
            } catch {
                // The leader has begun another round without waiting for the end of this one.
                guard error.code == "assistance_round_over" else { throw error }
            }
        }
    }

    private func compute(
        _ round: Int, _ order: SlabOrder, _ check: @escaping @Sendable () throws(Failure) -> Void
    ) throws(Failure) {
        let (decoder, cacheDirectory) = try prepare(order)
        let subject = AssistanceSubject(round: round, kind: SlabSubject.latents.rawValue)
        let latents = try assistance.party.receive(subject, from: 0, check: check)
            .typed(order.latentShape, order.type ?? .float32)
        let exchange = PartyExchange(party: assistance.party, round: round, order: order, check: check)
        var run = try decoder.run(
            latents: latents, cacheDirectory: cacheDirectory,
            member: SlabMember(plan: order.plan, index: order.member, exchange: exchange))
        while let rows = try run.next() { exchange.deliver(rows, chunk: run.chunksDone - 1) }
    }
}
