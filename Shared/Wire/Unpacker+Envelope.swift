import CProtobufC
import CWire
import Failure

extension Unpacker {
    func envelope(_ raw: Zoetrope__Envelope) throws(Failure) -> Envelope {
        try visit(raw.base)
        guard let session = SessionID(bytes: bytes(raw.session)) else {
            throw Failure("malformed", "a session has \(raw.session.len) bytes; it must have 16", field: "session")
        }
        return Envelope(
            session: session, sequence: raw.sequence, brokerEpoch: raw.broker_epoch, inReplyTo: raw.in_reply_to,
            trace: try text(raw.trace, "envelope.trace"), message: try message(raw))
    }

    private func message(_ raw: Zoetrope__Envelope) throws(Failure) -> Message {
        if let found = try sessionMessage(raw) { return found }
        if let found = try clientMessage(raw) { return found }
        if let found = try workMessage(raw) { return found }
        if let found = try dataMessage(raw) { return found }
        if let found = try administrationMessage(raw) { return found }
        if let found = try securityMessage(raw) { return found }
        if let found = try assistanceMessage(raw) { return found }
        throw Failure("malformed", "an envelope without a body that is known here", field: "body")
    }

    private func sessionMessage(_ raw: Zoetrope__Envelope) throws(Failure) -> Message? {
        switch raw.body_case {
        case ZOETROPE__ENVELOPE__BODY_HELLO:
            return .hello(try hello(required(raw.hello, "hello")))
        case ZOETROPE__ENVELOPE__BODY_WELCOME:
            return .welcome(try welcome(required(raw.welcome, "welcome")))
        case ZOETROPE__ENVELOPE__BODY_NEED_HELLO:
            return try empty(required(raw.need_hello, "need_hello"), .needHello)
        case ZOETROPE__ENVELOPE__BODY_BEAT:
            return .beat(try beat(required(raw.beat, "beat")))
        case ZOETROPE__ENVELOPE__BODY_BEAT_ACKNOWLEDGEMENT:
            return .beatAcknowledgement(
                try beatAcknowledgement(required(raw.beat_acknowledgement, "beat_acknowledgement")))
        case ZOETROPE__ENVELOPE__BODY_GOODBYE:
            return try empty(required(raw.goodbye, "goodbye"), .goodbye)
        case ZOETROPE__ENVELOPE__BODY_ERROR:
            return .error(try errorReply(required(raw.error, "error")))
        default: return nil
        }
    }

    private func clientMessage(_ raw: Zoetrope__Envelope) throws(Failure) -> Message? {
        switch raw.body_case {
        case ZOETROPE__ENVELOPE__BODY_SUBMIT:
            return .submit(try submit(required(raw.submit, "submit")))
        case ZOETROPE__ENVELOPE__BODY_ACCEPTED:
            return .accepted(try accepted(required(raw.accepted, "accepted")))
        case ZOETROPE__ENVELOPE__BODY_QUERY:
            return .query(try query(required(raw.query, "query")))
        case ZOETROPE__ENVELOPE__BODY_STATUS:
            return .status(try statusPage(required(raw.status, "status")))
        case ZOETROPE__ENVELOPE__BODY_WATCH:
            return .watch(try watch(required(raw.watch, "watch")))
        case ZOETROPE__ENVELOPE__BODY_EVENT:
            return .event(try jobStatus(required(raw.event, "event")))
        case ZOETROPE__ENVELOPE__BODY_CANCEL:
            return .cancel(job: try cancel(required(raw.cancel, "cancel")))
        case ZOETROPE__ENVELOPE__BODY_CANCEL_OUTCOME:
            return .cancelOutcome(try cancelOutcome(required(raw.cancel_outcome, "cancel_outcome")))
        case ZOETROPE__ENVELOPE__BODY_CLUSTER_QUERY:
            return try empty(required(raw.cluster_query, "cluster_query"), .clusterQuery)
        case ZOETROPE__ENVELOPE__BODY_CLUSTER:
            return .cluster(try clusterStatus(required(raw.cluster, "cluster")))
        case ZOETROPE__ENVELOPE__BODY_CLIENT_HELLO:
            return try empty(required(raw.client_hello, "client_hello"), .clientHello)
        case ZOETROPE__ENVELOPE__BODY_PREVIEW_WATCH:
            return .previewWatch(job: try previewWatch(required(raw.preview_watch, "preview_watch")))
        case ZOETROPE__ENVELOPE__BODY_PREVIEW:
            return .preview(try preview(required(raw.preview, "preview")))
        default: return nil
        }
    }

    private func workMessage(_ raw: Zoetrope__Envelope) throws(Failure) -> Message? {
        switch raw.body_case {
        case ZOETROPE__ENVELOPE__BODY_ASSIGN:
            return .assign(try assign(required(raw.assign, "assign")))
        case ZOETROPE__ENVELOPE__BODY_REFUSE:
            return .refuse(try refuse(required(raw.refuse, "refuse")))
        case ZOETROPE__ENVELOPE__BODY_CHECKPOINT:
            return .checkpoint(try checkpointReport(required(raw.checkpoint, "checkpoint")))
        case ZOETROPE__ENVELOPE__BODY_CHECKPOINT_COMMITTED:
            return try checkpointCommitted(required(raw.checkpoint_committed, "checkpoint_committed"))
        case ZOETROPE__ENVELOPE__BODY_COMPLETE:
            return .complete(try complete(required(raw.complete, "complete")))
        case ZOETROPE__ENVELOPE__BODY_COMMITTED:
            return .committed(try lease(required(raw.committed, "committed")))
        case ZOETROPE__ENVELOPE__BODY_FAIL:
            return .fail(try fail(required(raw.fail, "fail")))
        case ZOETROPE__ENVELOPE__BODY_LEASE_LOST:
            return .leaseLost(try lease(required(raw.lease_lost, "lease_lost")))
        case ZOETROPE__ENVELOPE__BODY_REVOKE:
            return .revoke(try revoke(required(raw.revoke, "revoke")))
        default: return nil
        }
    }

    private func dataMessage(_ raw: Zoetrope__Envelope) throws(Failure) -> Message? {
        switch raw.body_case {
        case ZOETROPE__ENVELOPE__BODY_GET:
            return .get(try get(required(raw.get, "get")))
        case ZOETROPE__ENVELOPE__BODY_CHUNK:
            return .chunk(try chunk(required(raw.chunk, "chunk")))
        case ZOETROPE__ENVELOPE__BODY_CREDIT:
            return .credit(try credit(required(raw.credit, "credit")))
        case ZOETROPE__ENVELOPE__BODY_STOP:
            return .stop(try blobName(required(raw.stop, "stop")))
        case ZOETROPE__ENVELOPE__BODY_PUT_OPEN:
            return .putOpen(try putOpen(required(raw.put_open, "put_open")))
        case ZOETROPE__ENVELOPE__BODY_PUT_CHUNK:
            return .putChunk(try chunk(required(raw.put_chunk, "put_chunk")))
        case ZOETROPE__ENVELOPE__BODY_PUT_DONE:
            return .putDone(try blobName(required(raw.put_done, "put_done")))
        case ZOETROPE__ENVELOPE__BODY_STORED:
            return .stored(try blobName(required(raw.stored, "stored")))
        case ZOETROPE__ENVELOPE__BODY_NOT_HERE:
            return .notHere(try blobName(required(raw.not_here, "not_here")))
        case ZOETROPE__ENVELOPE__BODY_BUSY:
            return .busy(retryAfterMilliseconds: try busy(required(raw.busy, "busy")))
        case ZOETROPE__ENVELOPE__BODY_MEMORY_INVITATION:
            return .memoryInvitation(try memoryInvitation(required(raw.memory_invitation, "memory_invitation")))
        case ZOETROPE__ENVELOPE__BODY_MEMORY_SLOT:
            return .memorySlot(try memorySlot(required(raw.memory_slot, "memory_slot")))
        default: return nil
        }
    }

    private func administrationMessage(_ raw: Zoetrope__Envelope) throws(Failure) -> Message? {
        switch raw.body_case {
        case ZOETROPE__ENVELOPE__BODY_DRAIN:
            return .drain(try drain(required(raw.drain, "drain")))
        case ZOETROPE__ENVELOPE__BODY_DRAINING:
            return .draining(try draining(required(raw.draining, "draining")))
        case ZOETROPE__ENVELOPE__BODY_DEAD_QUERY:
            return .deadQuery(try deadQuery(required(raw.dead_query, "dead_query")))
        case ZOETROPE__ENVELOPE__BODY_DEAD_PAGE:
            return .deadPage(try deadPage(required(raw.dead_page, "dead_page")))
        case ZOETROPE__ENVELOPE__BODY_DEAD_RETRY:
            return .deadRetry(try deadRetry(required(raw.dead_retry, "dead_retry")))
        default: return nil
        }
    }
}
