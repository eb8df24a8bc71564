/// Broker → worker: whom the worker's data socket admits, and how it verifies tickets. Replaces the one before.
package struct KeyRing: Sendable, Hashable {
    /// Every key the broker admits.
    package var keys: [PublicKey]
    /// Verifies tickets for this worker.
    package var ticketKey: TicketKey
    /// The broker's wall clock, by which tickets expire.
    package var unixMilliseconds: UInt64

    package init(keys: [PublicKey], ticketKey: TicketKey, unixMilliseconds: UInt64) {
        self.keys = keys
        self.ticketKey = ticketKey
        self.unixMilliseconds = unixMilliseconds
    }
}

/// Worker or client → broker: let me move this blob; answered by TICKET or ERROR.
package struct TicketRequest: Sendable, Hashable {
    package var terms: TicketTerms
    /// Key of the holder the ticket is for.
    package var holder: PublicKey
    /// The lease that needs the blob; nil for gateways and clients.
    package var lease: Lease?

    package init(terms: TicketTerms, holder: PublicKey, lease: Lease?) {
        self.terms = terms
        self.holder = holder
        self.lease = lease
    }
}
