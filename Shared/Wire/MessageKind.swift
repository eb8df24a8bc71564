/// What a process is on the bus; a message that its sender's role may not send is refused as `unexpected`.
package struct Role: OptionSet, Sendable, Hashable {
    package let rawValue: UInt8
    package init(rawValue: UInt8) { self.rawValue = rawValue }

    package static let broker = Role(rawValue: 1)
    package static let worker = Role(rawValue: 2)
    package static let client = Role(rawValue: 4)
    /// Holds blobs and answers GET and PUT_OPEN.
    package static let store = Role(rawValue: 8)
    /// Fetches blobs from a store or puts them there.
    package static let consumer = Role(rawValue: 16)
    package static let any: Role = [.broker, .worker, .client, .store, .consumer]
}

/// The type number of a message in the prelude: group in the high byte, message in the low byte. Never reused.
package enum MessageKind: UInt16, Sendable, Hashable, CaseIterable, CustomStringConvertible {
    case hello = 0x0101
    case welcome = 0x0102
    case needHello = 0x0103
    case beat = 0x0104
    case beatAcknowledgement = 0x0105
    case goodbye = 0x0106
    case error = 0x0107

    case submit = 0x0201
    case accepted = 0x0202
    case query = 0x0203
    case status = 0x0204
    case watch = 0x0205
    case event = 0x0206
    case cancel = 0x0207
    case cancelOutcome = 0x0208
    case clusterQuery = 0x0209
    case cluster = 0x020a
    case clientHello = 0x020b
    case previewWatch = 0x0250
    case preview = 0x0251

    case assign = 0x0301
    case refuse = 0x0302
    case checkpoint = 0x0303
    case checkpointCommitted = 0x0304
    case complete = 0x0305
    case committed = 0x0306
    case fail = 0x0307
    case leaseLost = 0x0308
    case revoke = 0x0309

    case get = 0x0401
    case chunk = 0x0402
    case credit = 0x0403
    case stop = 0x0404
    case putOpen = 0x0405
    case putChunk = 0x0406
    case putDone = 0x0407
    case stored = 0x0408
    case notHere = 0x0409
    case busy = 0x040a
    case memoryInvitation = 0x040b
    case memorySlot = 0x040c

    case drain = 0x0501
    case draining = 0x0502
    case deadQuery = 0x0503
    case deadPage = 0x0504
    case deadRetry = 0x0505

    case keyRing = 0x0601
    case ticketRequest = 0x0602
    case ticket = 0x0603

    case assistRequest = 0x0701
    case assistOffered = 0x0702
    case assist = 0x0703
    case assistJoin = 0x0704
    case assistPart = 0x0705
    case assistEnd = 0x0706
    case assistPulse = 0x0707

    /// The name in logs and in docs/protocol.md.
    package var description: String {
        switch self {
        case .hello: "HELLO"
        case .welcome: "WELCOME"
        case .needHello: "NEED_HELLO"
        case .beat: "BEAT"
        case .beatAcknowledgement: "BEAT_ACK"
        case .goodbye: "GOODBYE"
        case .error: "ERROR"
        case .submit: "SUBMIT"
        case .accepted: "ACCEPTED"
        case .query: "QUERY"
        case .status: "STATUS"
        case .watch: "WATCH"
        case .event: "EVENT"
        case .cancel: "CANCEL"
        case .cancelOutcome: "CANCEL_OUTCOME"
        case .clusterQuery: "CLUSTER_QUERY"
        case .cluster: "CLUSTER"
        case .clientHello: "CLIENT_HELLO"
        case .previewWatch: "PREVIEW_WATCH"
        case .preview: "PREVIEW"
        case .assign: "ASSIGN"
        case .refuse: "REFUSE"
        case .checkpoint: "CHECKPOINT"
        case .checkpointCommitted: "CHECKPOINT_COMMITTED"
        case .complete: "COMPLETE"
        case .committed: "COMMITTED"
        case .fail: "FAIL"
        case .leaseLost: "LEASE_LOST"
        case .revoke: "REVOKE"
        case .get: "GET"
        case .chunk: "CHUNK"
        case .credit: "CREDIT"
        case .stop: "STOP"
        case .putOpen: "PUT_OPEN"
        case .putChunk: "PUT_CHUNK"
        case .putDone: "PUT_DONE"
        case .stored: "STORED"
        case .notHere: "NOT_HERE"
        case .busy: "BUSY"
        case .memoryInvitation: "MEMORY_INVITATION"
        case .memorySlot: "MEMORY_SLOT"
        case .drain: "DRAIN"
        case .draining: "DRAINING"
        case .deadQuery: "DEAD_QUERY"
        case .deadPage: "DEAD_PAGE"
        case .deadRetry: "DEAD_RETRY"
        case .keyRing: "KEY_RING"
        case .ticketRequest: "TICKET_REQUEST"
        case .ticket: "TICKET"
        case .assistRequest: "ASSIST_REQUEST"
        case .assistOffered: "ASSIST_OFFERED"
        case .assist: "ASSIST"
        case .assistJoin: "ASSIST_JOIN"
        case .assistPart: "ASSIST_PART"
        case .assistEnd: "ASSIST_END"
        case .assistPulse: "ASSIST_PULSE"
        }
    }

    /// The roles that may send this message.
    package var senders: Role {
        switch self {
        case .hello, .beat, .refuse, .checkpoint, .complete, .fail, .assistRequest: .worker
        case .welcome, .needHello, .beatAcknowledgement, .accepted, .status, .event, .cancelOutcome, .cluster, .assign,
            .checkpointCommitted, .committed, .leaseLost, .revoke, .draining, .deadPage, .keyRing, .ticket,
            .assistOffered, .assist:
            .broker
        case .goodbye: [.worker, .client]
        case .preview: [.worker, .broker]
        case .error: .any
        case .clusterQuery, .ticketRequest: [.client, .worker]
        case .submit, .query, .watch, .cancel, .clientHello, .drain, .deadQuery, .deadRetry, .previewWatch: .client
        case .get, .stop, .putOpen, .putChunk, .putDone, .assistJoin: .consumer
        case .chunk, .stored, .notHere, .busy, .memoryInvitation, .memorySlot: .store
        case .credit, .assistPart, .assistEnd, .assistPulse: [.store, .consumer]
        }
    }

    /// Whether a payload frame follows the control frame.
    package var carriesPayload: Bool { self == .chunk || self == .putChunk || self == .assistPart }
}

extension Message {
    /// The type number that goes into the prelude (`MessageKind.rawValue`).
    package var kind: UInt16 { messageKind.rawValue }

    package var messageKind: MessageKind {
        switch self {
        case .hello: .hello
        case .welcome: .welcome
        case .needHello: .needHello
        case .beat: .beat
        case .beatAcknowledgement: .beatAcknowledgement
        case .goodbye: .goodbye
        case .error: .error
        case .submit: .submit
        case .accepted: .accepted
        case .query: .query
        case .status: .status
        case .watch: .watch
        case .event: .event
        case .cancel: .cancel
        case .cancelOutcome: .cancelOutcome
        case .clusterQuery: .clusterQuery
        case .cluster: .cluster
        case .clientHello: .clientHello
        case .previewWatch: .previewWatch
        case .preview: .preview
        case .assign: .assign
        case .refuse: .refuse
        case .checkpoint: .checkpoint
        case .checkpointCommitted: .checkpointCommitted
        case .complete: .complete
        case .committed: .committed
        case .fail: .fail
        case .leaseLost: .leaseLost
        case .revoke: .revoke
        case .get: .get
        case .chunk: .chunk
        case .credit: .credit
        case .stop: .stop
        case .putOpen: .putOpen
        case .putChunk: .putChunk
        case .putDone: .putDone
        case .stored: .stored
        case .notHere: .notHere
        case .busy: .busy
        case .memoryInvitation: .memoryInvitation
        case .memorySlot: .memorySlot
        case .drain: .drain
        case .draining: .draining
        case .deadQuery: .deadQuery
        case .deadPage: .deadPage
        case .deadRetry: .deadRetry
        case .keyRing: .keyRing
        case .ticketRequest: .ticketRequest
        case .ticket: .ticket
        case .assistRequest: .assistRequest
        case .assistOffered: .assistOffered
        case .assist: .assist
        case .assistJoin: .assistJoin
        case .assistPart: .assistPart
        case .assistEnd: .assistEnd
        case .assistPulse: .assistPulse
        }
    }
}
