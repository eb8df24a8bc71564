/// Worker → broker: `count` others that can do this task are to help with it, or one that can do the next is to follow
/// it. Answered by `AssistOffer`.
package struct AssistRequest: Sendable, Hashable {
    package var lease: Lease
    package var count: UInt32
    /// `AssistRequest.secretBytes` random bytes that assistants show at the leader's data socket.
    package var secret: [UInt8]
    /// A worker for the task that takes this one's results is wanted, which takes them as they come.
    package var follows: Bool

    package init(lease: Lease, count: UInt32, secret: [UInt8], follows: Bool = false) {
        self.lease = lease
        self.count = count
        self.secret = secret
        self.follows = follows
    }

    package static let secretBytes = MemoryWish.proofBytes
}

/// Broker → worker: so many workers were sent.
package struct AssistOffer: Sendable, Hashable {
    package var lease: Lease
    package var count: UInt32

    package init(lease: Lease, count: UInt32) {
        self.lease = lease
        self.count = count
    }
}

/// Broker → worker: help another worker with its task, which takes a slot, or follow it, which takes none. Nothing of it is
/// on disk.
package struct AssistOrder: Sendable, Hashable {
    /// The leader's.
    package var lease: Lease
    package var stage: String
    package var model: String
    /// The leader's name, for people.
    package var leader: String
    /// Its data sockets.
    package var locations: [Location]
    package var secret: [UInt8]
    /// Take the results as they come, for a task of `stage` that is leased once they are complete.
    package var follows: Bool
    /// Of that task; empty otherwise.
    package var parameters: String

    package init(
        lease: Lease, stage: String, model: String, leader: String, locations: [Location], secret: [UInt8],
        follows: Bool = false, parameters: String = ""
    ) {
        self.lease = lease
        self.stage = stage
        self.model = model
        self.leader = leader
        self.locations = locations
        self.secret = secret
        self.follows = follows
        self.parameters = parameters
    }
}

/// Header of one payload frame of at most 1 MiB between the workers on one task: a piece of a message from seat to seat.
/// What goes from one assistant to another passes through the leader.
package struct AssistPart: Sendable, Hashable {
    /// Attempts at the shared work, from 1 on; a new one makes messages of earlier ones worthless.
    package var round: UInt32
    /// Seats; the leader's is 0.
    package var from: UInt32
    package var to: UInt32
    /// What the stage means by it, and which of those.
    package var kind: UInt32
    package var tag: UInt32
    /// Of the piece within the message, and bytes of the message.
    package var offset: UInt64
    package var total: UInt64
    /// Of the piece, with its CRC-32C.
    package var length: UInt32
    package var crc: UInt32

    package init(
        round: UInt32, from: UInt32, to: UInt32, kind: UInt32, tag: UInt32, offset: UInt64 = 0, total: UInt64 = 0,
        length: UInt32 = 0, crc: UInt32 = 0
    ) {
        self.round = round
        self.from = from
        self.to = to
        self.kind = kind
        self.tag = tag
        self.offset = offset
        self.total = total
        self.length = length
        self.crc = crc
    }
}

/// Leader → assistant: no more is needed. Assistant → leader: do not count on me any more.
package struct AssistEnd: Sendable, Hashable {
    package var code: String
    /// For people.
    package var message: String

    package init(code: String, message: String) {
        self.code = code
        self.message = message
    }
}
