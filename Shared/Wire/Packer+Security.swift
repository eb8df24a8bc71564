import CProtobufC
import CWire
import Failure

extension Packer {
    func keyRing(_ ring: KeyRing) throws(Failure) -> UnsafeMutablePointer<Zoetrope__KeyRing> {
        let result = try make(zoetrope__key_ring__init)
        result.pointee.n_keys = ring.keys.count
        result.pointee.keys = try array(ring.keys, "key_ring.keys", limit: Limits.admittedKeys) {
            (key) throws(Failure) in try bytes(key.bytes)
        }
        result.pointee.ticket_key = try bytes(ring.ticketKey.bytes)
        result.pointee.unix_milliseconds = ring.unixMilliseconds
        return result
    }

    func ticketRequest(_ request: TicketRequest) throws(Failure) -> UnsafeMutablePointer<Zoetrope__TicketRequest> {
        let result = try make(zoetrope__ticket_request__init)
        result.pointee.direction = request.terms.direction.rawValue
        result.pointee.digest = try digest(request.terms.digest)
        result.pointee.holder = try bytes(request.holder.bytes)
        result.pointee.consumer = try bytes(request.terms.consumer.bytes)
        if let lease = request.lease { result.pointee.lease = try self.lease(lease) }
        return result
    }

    func ticketAnswer(_ ticket: Ticket) throws(Failure) -> UnsafeMutablePointer<Zoetrope__TicketAnswer> {
        let result = try make(zoetrope__ticket_answer__init)
        result.pointee.ticket = try bytes(ticket.bytes)
        return result
    }
}

// The group's place in the envelope.
extension Packer {
    func packSecurity(
        _ message: Message, into envelope: UnsafeMutablePointer<Zoetrope__Envelope>
    ) throws(Failure) -> Bool {
        switch message {
        case .keyRing(let body):
            envelope.pointee.key_ring = try keyRing(body)
            envelope.pointee.body_case = ZOETROPE__ENVELOPE__BODY_KEY_RING
        case .ticketRequest(let body):
            envelope.pointee.ticket_request = try ticketRequest(body)
            envelope.pointee.body_case = ZOETROPE__ENVELOPE__BODY_TICKET_REQUEST
        case .ticket(let body):
            envelope.pointee.ticket = try ticketAnswer(body)
            envelope.pointee.body_case = ZOETROPE__ENVELOPE__BODY_TICKET
        default: return false
        }
        return true
    }
}
