package import Wire

/// What happens to the broker.
package enum BrokerEvent: Sendable {
    /// A message from the session in its envelope; answers go to that session.
    case received(Envelope)
    /// A blob of the store was stored, or found there by somebody who brings it: a reference to it may be under way.
    case stored(Digest)
    /// A message to this session could not be sent: its peer is gone or its queue is full.
    case unreachable(SessionID)
    /// Comes about every 100 ms; leases, backoff, conflated events and retention hang on it.
    case tick
}

/// A message to a session.
package struct Outgoing: Sendable, Hashable {
    package var session: SessionID
    package var message: Message
    /// Sequence of the message this one answers; 0 = none.
    package var inReplyTo: UInt64

    package init(to session: SessionID, _ message: Message, inReplyTo: UInt64 = 0) {
        self.session = session
        self.message = message
        self.inReplyTo = inReplyTo
    }
}

/// What one event leads to. All `entries` are committed, then all `sends` leave, then `removals` are deleted from the
/// store: no promise leaves before it is on disk.
package struct BrokerStep: Sendable {
    package var entries: [LedgerEntry] = []
    package var sends: [Outgoing] = []
    /// Blobs of the broker's store that nothing has referred to for a while.
    package var removals: [Digest] = []

    package init() {}
}
