import CProtobufC
import CWire
import Failure

extension Packer {
    func envelope(_ envelope: Envelope) throws(Failure) -> UnsafeMutablePointer<Zoetrope__Envelope> {
        let result = try make(zoetrope__envelope__init)
        result.pointee.session = try bytes(envelope.session.bytes)
        result.pointee.sequence = envelope.sequence
        result.pointee.broker_epoch = envelope.brokerEpoch
        result.pointee.in_reply_to = envelope.inReplyTo
        result.pointee.trace = try text(envelope.trace, "envelope.trace")
        // Each group knows its own messages and says whether this was one of them.
        if try packSession(envelope.message, into: result) { return result }
        if try packClient(envelope.message, into: result) { return result }
        if try packWork(envelope.message, into: result) { return result }
        if try packData(envelope.message, into: result) { return result }
        if try packAdministration(envelope.message, into: result) { return result }
        if try packAssistance(envelope.message, into: result) { return result }
        _ = try packSecurity(envelope.message, into: result)
        return result
    }

    private func packSession(
        _ message: Message, into envelope: UnsafeMutablePointer<Zoetrope__Envelope>
    ) throws(Failure) -> Bool {
        switch message {
        case .hello(let body):
            envelope.pointee.hello = try hello(body)
            envelope.pointee.body_case = ZOETROPE__ENVELOPE__BODY_HELLO
        case .welcome(let body):
            envelope.pointee.welcome = try welcome(body)
            envelope.pointee.body_case = ZOETROPE__ENVELOPE__BODY_WELCOME
        case .needHello:
            envelope.pointee.need_hello = try empty()
            envelope.pointee.body_case = ZOETROPE__ENVELOPE__BODY_NEED_HELLO
        case .beat(let body):
            envelope.pointee.beat = try beat(body)
            envelope.pointee.body_case = ZOETROPE__ENVELOPE__BODY_BEAT
        case .beatAcknowledgement(let body):
            envelope.pointee.beat_acknowledgement = try beatAcknowledgement(body)
            envelope.pointee.body_case = ZOETROPE__ENVELOPE__BODY_BEAT_ACKNOWLEDGEMENT
        case .goodbye:
            envelope.pointee.goodbye = try empty()
            envelope.pointee.body_case = ZOETROPE__ENVELOPE__BODY_GOODBYE
        case .error(let body):
            envelope.pointee.error = try errorReply(body)
            envelope.pointee.body_case = ZOETROPE__ENVELOPE__BODY_ERROR
        default: return false
        }
        return true
    }

    private func packClient(
        _ message: Message, into envelope: UnsafeMutablePointer<Zoetrope__Envelope>
    ) throws(Failure) -> Bool {
        switch message {
        case .submit(let body):
            envelope.pointee.submit = try submit(body)
            envelope.pointee.body_case = ZOETROPE__ENVELOPE__BODY_SUBMIT
        case .accepted(let body):
            envelope.pointee.accepted = try accepted(body)
            envelope.pointee.body_case = ZOETROPE__ENVELOPE__BODY_ACCEPTED
        case .query(let body):
            envelope.pointee.query = try query(body)
            envelope.pointee.body_case = ZOETROPE__ENVELOPE__BODY_QUERY
        case .status(let body):
            envelope.pointee.status = try statusPage(body)
            envelope.pointee.body_case = ZOETROPE__ENVELOPE__BODY_STATUS
        case .watch(let body):
            envelope.pointee.watch = try watch(body)
            envelope.pointee.body_case = ZOETROPE__ENVELOPE__BODY_WATCH
        case .event(let body):
            envelope.pointee.event = try jobStatus(body)
            envelope.pointee.body_case = ZOETROPE__ENVELOPE__BODY_EVENT
        case .cancel(let job):
            envelope.pointee.cancel = try cancel(job: job)
            envelope.pointee.body_case = ZOETROPE__ENVELOPE__BODY_CANCEL
        case .cancelOutcome(let body):
            envelope.pointee.cancel_outcome = try cancelOutcome(body)
            envelope.pointee.body_case = ZOETROPE__ENVELOPE__BODY_CANCEL_OUTCOME
        case .clusterQuery:
            envelope.pointee.cluster_query = try empty()
            envelope.pointee.body_case = ZOETROPE__ENVELOPE__BODY_CLUSTER_QUERY
        case .cluster(let body):
            envelope.pointee.cluster = try clusterStatus(body)
            envelope.pointee.body_case = ZOETROPE__ENVELOPE__BODY_CLUSTER
        case .clientHello:
            envelope.pointee.client_hello = try empty()
            envelope.pointee.body_case = ZOETROPE__ENVELOPE__BODY_CLIENT_HELLO
        case .previewWatch(let job):
            envelope.pointee.preview_watch = try previewWatch(job: job)
            envelope.pointee.body_case = ZOETROPE__ENVELOPE__BODY_PREVIEW_WATCH
        case .preview(let body):
            envelope.pointee.preview = try preview(body)
            envelope.pointee.body_case = ZOETROPE__ENVELOPE__BODY_PREVIEW
        default: return false
        }
        return true
    }

    private func packWork(
        _ message: Message, into envelope: UnsafeMutablePointer<Zoetrope__Envelope>
    ) throws(Failure) -> Bool {
        switch message {
        case .assign(let body):
            envelope.pointee.assign = try assign(body)
            envelope.pointee.body_case = ZOETROPE__ENVELOPE__BODY_ASSIGN
        case .refuse(let body):
            envelope.pointee.refuse = try refuse(body)
            envelope.pointee.body_case = ZOETROPE__ENVELOPE__BODY_REFUSE
        case .checkpoint(let body):
            envelope.pointee.checkpoint = try checkpointReport(body)
            envelope.pointee.body_case = ZOETROPE__ENVELOPE__BODY_CHECKPOINT
        case .checkpointCommitted(let body, let step):
            envelope.pointee.checkpoint_committed = try checkpointCommitted(body, step: step)
            envelope.pointee.body_case = ZOETROPE__ENVELOPE__BODY_CHECKPOINT_COMMITTED
        case .complete(let body):
            envelope.pointee.complete = try complete(body)
            envelope.pointee.body_case = ZOETROPE__ENVELOPE__BODY_COMPLETE
        case .committed(let body):
            envelope.pointee.committed = try lease(body)
            envelope.pointee.body_case = ZOETROPE__ENVELOPE__BODY_COMMITTED
        case .fail(let body):
            envelope.pointee.fail = try fail(body)
            envelope.pointee.body_case = ZOETROPE__ENVELOPE__BODY_FAIL
        case .leaseLost(let body):
            envelope.pointee.lease_lost = try lease(body)
            envelope.pointee.body_case = ZOETROPE__ENVELOPE__BODY_LEASE_LOST
        case .revoke(let body):
            envelope.pointee.revoke = try revoke(body)
            envelope.pointee.body_case = ZOETROPE__ENVELOPE__BODY_REVOKE
        default: return false
        }
        return true
    }

    private func packData(
        _ message: Message, into envelope: UnsafeMutablePointer<Zoetrope__Envelope>
    ) throws(Failure) -> Bool {
        switch message {
        case .get(let body):
            envelope.pointee.get = try get(body)
            envelope.pointee.body_case = ZOETROPE__ENVELOPE__BODY_GET
        case .chunk(let body):
            envelope.pointee.chunk = try chunk(body)
            envelope.pointee.body_case = ZOETROPE__ENVELOPE__BODY_CHUNK
        case .credit(let body):
            envelope.pointee.credit = try credit(body)
            envelope.pointee.body_case = ZOETROPE__ENVELOPE__BODY_CREDIT
        case .stop(let digest):
            envelope.pointee.stop = try blobName(digest)
            envelope.pointee.body_case = ZOETROPE__ENVELOPE__BODY_STOP
        case .putOpen(let body):
            envelope.pointee.put_open = try putOpen(body)
            envelope.pointee.body_case = ZOETROPE__ENVELOPE__BODY_PUT_OPEN
        case .putChunk(let body):
            envelope.pointee.put_chunk = try chunk(body)
            envelope.pointee.body_case = ZOETROPE__ENVELOPE__BODY_PUT_CHUNK
        case .putDone(let digest):
            envelope.pointee.put_done = try blobName(digest)
            envelope.pointee.body_case = ZOETROPE__ENVELOPE__BODY_PUT_DONE
        case .stored(let digest):
            envelope.pointee.stored = try blobName(digest)
            envelope.pointee.body_case = ZOETROPE__ENVELOPE__BODY_STORED
        case .notHere(let digest):
            envelope.pointee.not_here = try blobName(digest)
            envelope.pointee.body_case = ZOETROPE__ENVELOPE__BODY_NOT_HERE
        case .busy(let milliseconds):
            envelope.pointee.busy = try busy(retryAfterMilliseconds: milliseconds)
            envelope.pointee.body_case = ZOETROPE__ENVELOPE__BODY_BUSY
        case .memoryInvitation(let body):
            envelope.pointee.memory_invitation = try memoryInvitation(body)
            envelope.pointee.body_case = ZOETROPE__ENVELOPE__BODY_MEMORY_INVITATION
        case .memorySlot(let body):
            envelope.pointee.memory_slot = try memorySlot(body)
            envelope.pointee.body_case = ZOETROPE__ENVELOPE__BODY_MEMORY_SLOT
        default: return false
        }
        return true
    }

    private func packAdministration(
        _ message: Message, into envelope: UnsafeMutablePointer<Zoetrope__Envelope>
    ) throws(Failure) -> Bool {
        switch message {
        case .drain(let body):
            envelope.pointee.drain = try drain(body)
            envelope.pointee.body_case = ZOETROPE__ENVELOPE__BODY_DRAIN
        case .draining(let body):
            envelope.pointee.draining = try draining(body)
            envelope.pointee.body_case = ZOETROPE__ENVELOPE__BODY_DRAINING
        case .deadQuery(let body):
            envelope.pointee.dead_query = try deadQuery(body)
            envelope.pointee.body_case = ZOETROPE__ENVELOPE__BODY_DEAD_QUERY
        case .deadPage(let body):
            envelope.pointee.dead_page = try deadPage(body)
            envelope.pointee.body_case = ZOETROPE__ENVELOPE__BODY_DEAD_PAGE
        case .deadRetry(let body):
            envelope.pointee.dead_retry = try deadRetry(body)
            envelope.pointee.body_case = ZOETROPE__ENVELOPE__BODY_DEAD_RETRY
        default: return false
        }
        return true
    }
}
