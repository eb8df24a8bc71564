import CProtobufC
import CWire
import Failure

extension Packer {
    /// Packs a message of this group; false when it is of another.
    func packAssistance(
        _ message: Message, into envelope: UnsafeMutablePointer<Zoetrope__Envelope>
    ) throws(Failure) -> Bool {
        switch message {
        case .assistRequest(let body):
            envelope.pointee.assist_request = try assistRequest(body)
            envelope.pointee.body_case = ZOETROPE__ENVELOPE__BODY_ASSIST_REQUEST
        case .assistOffered(let body):
            envelope.pointee.assist_offered = try assistOffer(body)
            envelope.pointee.body_case = ZOETROPE__ENVELOPE__BODY_ASSIST_OFFERED
        case .assist(let body):
            envelope.pointee.assist = try assistOrder(body)
            envelope.pointee.body_case = ZOETROPE__ENVELOPE__BODY_ASSIST
        case .assistJoin(let secret):
            envelope.pointee.assist_join = try assistJoin(secret)
            envelope.pointee.body_case = ZOETROPE__ENVELOPE__BODY_ASSIST_JOIN
        case .assistPart(let body):
            envelope.pointee.assist_part = try assistPart(body)
            envelope.pointee.body_case = ZOETROPE__ENVELOPE__BODY_ASSIST_PART
        case .assistEnd(let body):
            envelope.pointee.assist_end = try assistEnd(body)
            envelope.pointee.body_case = ZOETROPE__ENVELOPE__BODY_ASSIST_END
        case .assistPulse:
            envelope.pointee.assist_pulse = try empty()
            envelope.pointee.body_case = ZOETROPE__ENVELOPE__BODY_ASSIST_PULSE
        default: return false
        }
        return true
    }

    private func assistRequest(
        _ request: AssistRequest
    ) throws(Failure) -> UnsafeMutablePointer<Zoetrope__AssistRequest> {
        let result = try make(zoetrope__assist_request__init)
        result.pointee.lease = try lease(request.lease)
        result.pointee.count = request.count
        result.pointee.secret = try assistanceSecret(request.secret, "assist_request.secret")
        result.pointee.follows = request.follows ? 1 : 0
        return result
    }

    private func assistOffer(_ offer: AssistOffer) throws(Failure) -> UnsafeMutablePointer<Zoetrope__AssistOffer> {
        let result = try make(zoetrope__assist_offer__init)
        result.pointee.lease = try lease(offer.lease)
        result.pointee.count = offer.count
        return result
    }

    private func assistOrder(_ order: AssistOrder) throws(Failure) -> UnsafeMutablePointer<Zoetrope__AssistOrder> {
        let result = try make(zoetrope__assist_order__init)
        result.pointee.lease = try lease(order.lease)
        result.pointee.stage = try text(order.stage, "assist.stage")
        result.pointee.model = try text(order.model, "assist.model")
        result.pointee.leader = try text(order.leader, "assist.leader")
        result.pointee.n_locations = order.locations.count
        result.pointee.locations = try list(order.locations, "assist.locations", limit: Limits.locations, location)
        result.pointee.secret = try assistanceSecret(order.secret, "assist.secret")
        result.pointee.follows = order.follows ? 1 : 0
        result.pointee.parameters = try text(order.parameters, "assist.parameters", limit: Limits.parameterBytes)
        return result
    }

    private func assistJoin(_ secret: [UInt8]) throws(Failure) -> UnsafeMutablePointer<Zoetrope__AssistJoin> {
        let result = try make(zoetrope__assist_join__init)
        result.pointee.secret = try assistanceSecret(secret, "assist_join.secret")
        return result
    }

    private func assistPart(_ part: AssistPart) throws(Failure) -> UnsafeMutablePointer<Zoetrope__AssistPart> {
        try Bounds.check(part)
        let result = try make(zoetrope__assist_part__init)
        result.pointee.round = part.round
        result.pointee.from = part.from
        result.pointee.to = part.to
        result.pointee.kind = part.kind
        result.pointee.tag = part.tag
        result.pointee.offset = part.offset
        result.pointee.total = part.total
        result.pointee.length = part.length
        result.pointee.crc = part.crc
        return result
    }

    private func assistEnd(_ end: AssistEnd) throws(Failure) -> UnsafeMutablePointer<Zoetrope__AssistEnd> {
        let result = try make(zoetrope__assist_end__init)
        result.pointee.code = try text(end.code, "assist_end.code")
        result.pointee.message = try prose(end.message)
        return result
    }

    private func assistanceSecret(_ secret: [UInt8], _ field: String) throws(Failure) -> ProtobufCBinaryData {
        try Bounds.check(secret: secret.count, field)
        return try bytes(secret)
    }
}
