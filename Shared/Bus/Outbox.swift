package import Failure
package import Wire

/// Numbers and encodes what one session sends.
struct Outbox {
    let session: SessionID
    var epoch: UInt64 = 0
    private(set) var lastSequence: UInt64 = 0

    init(session: SessionID, epoch: UInt64 = 0) {
        self.session = session
        self.epoch = epoch
    }

    /// The control frame of the next message, and its sequence.
    mutating func frame(
        _ message: Message, inReplyTo: UInt64 = 0
    ) throws(Failure) -> (frame: [UInt8], sequence: UInt64) {
        let envelope = Envelope(
            session: session, sequence: lastSequence + 1, brokerEpoch: epoch, inReplyTo: inReplyTo, message: message)
        let frame = try EnvelopeCodec.encode(envelope)
        lastSequence += 1
        return (frame, lastSequence)
    }
}

extension ErrorReply {
    /// The failure as it travels; what the remedy says joins the message.
    package init(_ failure: Failure, retryAfterMilliseconds: UInt32 = 0) {
        let remedy = failure.remedy.map { " \($0)" } ?? ""
        self.init(
            code: failure.code, message: failure.message + remedy, retryAfterMilliseconds: retryAfterMilliseconds)
    }
}

extension Failure {
    /// The failure that a peer reported.
    package init(_ reply: ErrorReply) {
        let wait = reply.retryAfterMilliseconds
        self.init(
            reply.code, reply.message, remedy: wait > 0 ? "Try again in \(wait) ms." : nil,
            retry: wait > 0 ? .sameWorker : .never)
        retryAfterMilliseconds = wait
    }
}
