package import Failure
package import Wire

/// One turn of the broker as a pure state machine: a batch of events from the decision to the last message.
///
/// The order is what makes the broker's promises true, so it lies here, where the simulator runs it, and not with the
/// sockets and the disk: one commit for the whole batch, then the messages, then the removals. A commit that the ledger
/// refuses did not happen: the same events are decided again by a broker that writes nothing.
///
/// ```swift
/// var turn = BrokerTurn(events)
/// turn.decide(with: &state, now: now)
/// while let action = turn.next() { … }   // after a refused commit: `turn.refused(…)`, then `next` again
/// ```
package struct BrokerTurn: Sendable {
    /// What has to be finished before `next` is asked again.
    package enum Action: Sendable {
        /// Write all of these in one transaction and wait until they are on disk.
        case commit([LedgerEntry])
        case send([Outgoing])
        /// Delete these blobs from the store, save those that somebody has brought again since `decide`.
        case remove([Digest])
    }

    private enum Phase { case decided, written, sent, over }

    private let events: [BrokerEvent]
    private var step = BrokerStep()
    private var phase = Phase.over

    /// - Parameter events: what arrived since the last turn, in order.
    package init(_ events: [BrokerEvent]) { self.events = events }

    /// Lets the broker handle the events; nothing of it leaves before `next` says so. Time comes last: while the broker
    /// waited for its disk, beats have arrived, and no lease may run out before they are heard.
    package mutating func decide(with state: inout BrokerState, now: Instant) {
        step = BrokerStep()
        var hasTick = false
        for event in events {
            if case .tick = event { hasTick = true } else { handle(event, with: &state, now: now) }
        }
        if hasTick { handle(.tick, with: &state, now: now) }
        phase = .decided
    }

    private mutating func handle(_ event: BrokerEvent, with state: inout BrokerState, now: Instant) {
        let one = state.handle(event, now: now)
        step.entries += one.entries
        step.sends += one.sends
        step.removals += one.removals
    }

    /// The ledger wrote nothing of the last `commit`: the broker goes back to what is on disk and decides anew.
    /// - Parameters:
    ///   - records: what the ledger holds.
    ///   - reason: why it refuses.
    package mutating func refused(
        _ reason: Failure, records: Records, state: inout BrokerState, now: Instant
    ) {
        state.recover(records: records, readOnly: reason, now: now)
        decide(with: &state, now: now)
    }

    /// The next action, or nil when the turn is over. Asking says that the action before is finished.
    package mutating func next() -> Action? {
        if phase == .decided {
            phase = .written
            if !step.entries.isEmpty { return .commit(step.entries) }
        }
        if phase == .written {
            phase = .sent
            if !step.sends.isEmpty { return .send(step.sends) }
        }
        if phase == .sent {
            phase = .over
            if !step.removals.isEmpty { return .remove(step.removals) }
        }
        return nil
    }
}
