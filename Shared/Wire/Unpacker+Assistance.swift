import CProtobufC
import CWire
import Failure

extension Unpacker {
    /// A message of this group, or nil.
    func assistanceMessage(_ raw: Zoetrope__Envelope) throws(Failure) -> Message? {
        switch raw.body_case {
        case ZOETROPE__ENVELOPE__BODY_ASSIST_REQUEST:
            return .assistRequest(try assistRequest(required(raw.assist_request, "assist_request")))
        case ZOETROPE__ENVELOPE__BODY_ASSIST_OFFERED:
            return .assistOffered(try assistOffer(required(raw.assist_offered, "assist_offered")))
        case ZOETROPE__ENVELOPE__BODY_ASSIST:
            return .assist(try assistOrder(required(raw.assist, "assist")))
        case ZOETROPE__ENVELOPE__BODY_ASSIST_JOIN:
            return .assistJoin(secret: try assistJoin(required(raw.assist_join, "assist_join")))
        case ZOETROPE__ENVELOPE__BODY_ASSIST_PART:
            return .assistPart(try assistPart(required(raw.assist_part, "assist_part")))
        case ZOETROPE__ENVELOPE__BODY_ASSIST_END:
            return .assistEnd(try assistEnd(required(raw.assist_end, "assist_end")))
        case ZOETROPE__ENVELOPE__BODY_ASSIST_PULSE:
            return try empty(required(raw.assist_pulse, "assist_pulse"), .assistPulse)
        default: return nil
        }
    }

    private func assistRequest(_ raw: Zoetrope__AssistRequest) throws(Failure) -> AssistRequest {
        try visit(raw.base)
        return AssistRequest(
            lease: try lease(required(raw.lease, "assist_request.lease")), count: raw.count,
            secret: try assistanceSecret(raw.secret, "assist_request.secret"), follows: raw.follows != 0)
    }

    private func assistOffer(_ raw: Zoetrope__AssistOffer) throws(Failure) -> AssistOffer {
        try visit(raw.base)
        return AssistOffer(lease: try lease(required(raw.lease, "assist_offered.lease")), count: raw.count)
    }

    private func assistOrder(_ raw: Zoetrope__AssistOrder) throws(Failure) -> AssistOrder {
        try visit(raw.base)
        return AssistOrder(
            lease: try lease(required(raw.lease, "assist.lease")), stage: try text(raw.stage, "assist.stage"),
            model: try text(raw.model, "assist.model"), leader: try text(raw.leader, "assist.leader"),
            locations: try list(
                raw.n_locations, raw.locations, "assist.locations", limit: Limits.locations, location),
            secret: try assistanceSecret(raw.secret, "assist.secret"), follows: raw.follows != 0,
            parameters: try text(raw.parameters, "assist.parameters", limit: Limits.parameterBytes))
    }

    private func assistJoin(_ raw: Zoetrope__AssistJoin) throws(Failure) -> [UInt8] {
        try visit(raw.base)
        return try assistanceSecret(raw.secret, "assist_join.secret")
    }

    private func assistPart(_ raw: Zoetrope__AssistPart) throws(Failure) -> AssistPart {
        try visit(raw.base)
        let part = AssistPart(
            round: raw.round, from: raw.from, to: raw.to, kind: raw.kind, tag: raw.tag, offset: raw.offset,
            total: raw.total, length: raw.length, crc: raw.crc)
        try Bounds.check(part)
        return part
    }

    private func assistEnd(_ raw: Zoetrope__AssistEnd) throws(Failure) -> AssistEnd {
        try visit(raw.base)
        return AssistEnd(
            code: try text(raw.code, "assist_end.code"), message: try prose(raw.message, "assist_end.message"))
    }

    private func assistanceSecret(_ raw: ProtobufCBinaryData, _ field: String) throws(Failure) -> [UInt8] {
        try Bounds.check(secret: raw.len, field)
        return bytes(raw)
    }
}
