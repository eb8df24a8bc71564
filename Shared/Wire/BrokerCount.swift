/// What a broker counts since its start and tells in `ClusterStatus.counts`. Names are never given another meaning.
package enum BrokerCount: String, Sendable, Hashable, CaseIterable {
    /// CURVE handshakes of authorised keys.
    case handshakesAdmitted = "handshakes_admitted"
    /// Sessions that ended because their key was revoked.
    case sessionsRevoked = "sessions_revoked"
    /// File descriptors in use, and how many there may be.
    case descriptorsUsed = "descriptors_used"
    case descriptorsLimit = "descriptors_limit"

    /// Handshakes of keys that are not authorised.
    case refusedKey = "refused_key"
    /// Handshakes that broke off: no key, the wrong broker's key, another protocol, or a mere knock at the port.
    case refusedHandshake = "refused_handshake"
    /// Messages of peers whose key was revoked.
    case refusedRevoked = "refused_revoked"
    /// Messages that the sender's role may not send.
    case refusedRole = "refused_role"
    /// Messages for a session of another key, and data sockets announced under another key.
    case refusedSession = "refused_session"
    /// Tickets that were not given.
    case refusedTicketRequest = "refused_ticket_request"
    /// Transfers at the broker's store without a valid ticket.
    case refusedTicket = "refused_ticket"
    /// Frames that were no message.
    case refusedFrame = "refused_frame"
    /// Messages that the broker had no room for.
    case refusedOverload = "refused_overload"

    private static let refusalPrefix = "refused_"

    /// Why something was refused, where this counts refusals.
    package var refusalReason: String? {
        rawValue.hasPrefix(Self.refusalPrefix) ? String(rawValue.dropFirst(Self.refusalPrefix.count)) : nil
    }
}
