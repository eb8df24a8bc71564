import CProtobufC
import CWire
import Failure

extension Unpacker {
    func keyRing(_ raw: Zoetrope__KeyRing) throws(Failure) -> KeyRing {
        try visit(raw.base)
        let keys = try array(raw.n_keys, raw.keys, "key_ring.keys", limit: Limits.admittedKeys) {
            (key) throws(Failure) in try publicKey(key, "key_ring.keys")
        }
        try Bounds.check(bytes: raw.ticket_key.len, limit: TicketKey.byteCount, "key_ring.ticket_key")
        guard let ticketKey = TicketKey(bytes: bytes(raw.ticket_key)) else {
            throw Failure("malformed", "a ticket key of \(raw.ticket_key.len) bytes", field: "key_ring.ticket_key")
        }
        return KeyRing(keys: keys, ticketKey: ticketKey, unixMilliseconds: raw.unix_milliseconds)
    }

    func ticketRequest(_ raw: Zoetrope__TicketRequest) throws(Failure) -> TicketRequest {
        try visit(raw.base)
        let terms = TicketTerms(
            direction: try checked(raw.direction, "ticket_request.direction", as: TicketTerms.Direction.self),
            digest: try digest(raw.digest), consumer: try publicKey(raw.consumer, "ticket_request.consumer"))
        var request = TicketRequest(
            terms: terms, holder: try publicKey(raw.holder, "ticket_request.holder"), lease: nil)
        if let lease = raw.lease { request.lease = try self.lease(lease.pointee) }
        return request
    }

    func ticketAnswer(_ raw: Zoetrope__TicketAnswer) throws(Failure) -> Ticket {
        try visit(raw.base)
        guard let ticket = try ticket(raw.ticket) else {
            throw Failure("malformed", "a TICKET without a ticket", field: "ticket")
        }
        return ticket
    }

    /// A ticket, or nil where the field is empty.
    func ticket(_ data: ProtobufCBinaryData) throws(Failure) -> Ticket? {
        guard data.len > 0 else { return nil }
        try Bounds.check(bytes: data.len, limit: Ticket.byteCount, "ticket")
        guard let ticket = Ticket(bytes: bytes(data)) else {
            throw Failure("malformed", "\(data.len) bytes that are no ticket", field: "ticket")
        }
        return ticket
    }

    func publicKey(_ data: ProtobufCBinaryData, _ field: String) throws(Failure) -> PublicKey {
        try Bounds.check(bytes: data.len, limit: PublicKey.byteCount, field)
        guard let key = PublicKey(bytes: bytes(data)) else {
            throw Failure("malformed", "\(field): a key of \(data.len) bytes", field: field)
        }
        return key
    }
}

// The group's place in the envelope.
extension Unpacker {
    func securityMessage(_ raw: Zoetrope__Envelope) throws(Failure) -> Message? {
        switch raw.body_case {
        case ZOETROPE__ENVELOPE__BODY_KEY_RING:
            return .keyRing(try keyRing(required(raw.key_ring, "key_ring")))
        case ZOETROPE__ENVELOPE__BODY_TICKET_REQUEST:
            return .ticketRequest(try ticketRequest(required(raw.ticket_request, "ticket_request")))
        case ZOETROPE__ENVELOPE__BODY_TICKET:
            return .ticket(try ticketAnswer(required(raw.ticket, "ticket")))
        default: return nil
        }
    }
}
