/// A message of CVB/1. The raw type number on the wire is `kind`.
package enum Message: Sendable, Hashable {
    // Session 0x01xx
    case hello(Hello)
    case welcome(Welcome)
    case needHello
    case beat(Beat)
    case beatAcknowledgement(BeatAcknowledgement)
    case goodbye
    case error(ErrorReply)
    // Client 0x02xx
    case submit(Submit)
    case accepted(Accepted)
    case query(Query)
    case status(StatusPage)
    case watch(Watch)
    case event(JobStatus)
    case cancel(job: String)
    case cancelOutcome(CancelOutcome)
    case clusterQuery
    case cluster(ClusterStatus)
    /// Client → broker: intervals and store locations, answered by `welcome`.
    case clientHello
    /// Client → broker: for a while, send the previews of this job's denoising.
    case previewWatch(job: String)
    /// Worker → broker → client: what the task is about to become.
    case preview(Preview)
    // Work 0x03xx
    case assign(Assign)
    case refuse(Refuse)
    case checkpoint(CheckpointReport)
    case checkpointCommitted(lease: Lease, step: UInt32)
    case complete(Complete)
    case committed(Lease)
    case fail(Fail)
    case leaseLost(Lease)
    case revoke(Revoke)
    // Data 0x04xx
    case get(Get)
    case chunk(Chunk)
    case credit(Credit)
    case stop(Digest)
    case putOpen(PutOpen)
    case putChunk(Chunk)
    case putDone(Digest)
    case stored(Digest)
    case notHere(Digest)
    case busy(retryAfterMilliseconds: UInt32)
    case memoryInvitation(MemoryInvitation)
    case memorySlot(MemorySlot)
    // Administration 0x05xx
    case drain(Drain)
    case draining(Draining)
    case deadQuery(DeadQuery)
    case deadPage(DeadPage)
    /// Answered by `accepted` with the new job.
    case deadRetry(DeadRetry)
    // Security 0x06xx
    case keyRing(KeyRing)
    case ticketRequest(TicketRequest)
    case ticket(Ticket)
    // Assistance 0x07xx
    case assistRequest(AssistRequest)
    case assistOffered(AssistOffer)
    case assist(AssistOrder)
    /// Assistant → leader: the secret of the order.
    case assistJoin(secret: [UInt8])
    case assistPart(AssistPart)
    case assistEnd(AssistEnd)
    /// Either way, twice a second: the process is there, whatever it computes.
    case assistPulse
}

/// What travels with every message.
package struct Envelope: Sendable, Hashable {
    /// The sender's incarnation.
    package var session: SessionID
    /// Rises by one with every message of the session.
    package var sequence: UInt64
    /// The broker's epoch: set by the broker, echoed by workers; 0 = not known yet.
    package var brokerEpoch: UInt64
    /// `sequence` of the message this one answers; 0 = none.
    package var inReplyTo: UInt64
    /// W3C traceparent, or empty.
    package var trace: String
    package var message: Message

    package init(
        session: SessionID, sequence: UInt64, brokerEpoch: UInt64, inReplyTo: UInt64 = 0, trace: String = "",
        message: Message
    ) {
        self.session = session
        self.sequence = sequence
        self.brokerEpoch = brokerEpoch
        self.inReplyTo = inReplyTo
        self.trace = trace
        self.message = message
    }
}
