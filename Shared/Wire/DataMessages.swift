/// Consumer → holder: send `length` bytes of the blob from `offset` on, at most `window` outstanding.
package struct Get: Sendable, Hashable {
    package var digest: Digest
    package var offset: UInt64
    package var length: UInt64
    package var window: UInt32
    /// The broker's permission; needed by holders behind CURVE.
    package var ticket: Ticket?
    /// Asks for the blob through shared memory; a holder that cannot, or does not know of it, sends chunks.
    package var memory: MemoryWish?

    package init(
        digest: Digest, offset: UInt64, length: UInt64, window: UInt32, ticket: Ticket? = nil,
        memory: MemoryWish? = nil
    ) {
        self.digest = digest
        self.offset = offset
        self.length = length
        self.window = window
        self.ticket = ticket
        self.memory = memory
    }
}

/// Consumer → holder, inside GET: I can read shared memory.
package struct MemoryWish: Sendable, Hashable {
    /// The secret that stands in the holder's memory, which shows that the consumer sees it; empty before that.
    package var proof: [UInt8]

    /// - Parameter proof: empty, or `MemoryWish.proofBytes` bytes.
    package init(proof: [UInt8] = []) { self.proof = proof }

    /// Bytes of a proof and of a token.
    package static let proofBytes = 32
}

/// Holder → consumer: whoever brings this token to this socket is given memory to look into.
package struct MemoryInvitation: Sendable, Hashable {
    package var digest: Digest
    /// A file in the run directory.
    package var socket: String
    /// `MemoryWish.proofBytes` random bytes, good for one connection within seconds.
    package var token: [UInt8]

    package init(digest: Digest, socket: String, token: [UInt8]) {
        self.digest = digest
        self.socket = socket
        self.token = token
    }
}

/// Holder → consumer: the blob lies there until STOP, and for a lease at the longest.
package struct MemorySlot: Sendable, Hashable {
    package var digest: Digest
    /// Its place in the table of generations.
    package var slot: UInt32
    /// What the table must say before the bytes are used, and still say afterwards.
    package var generation: UInt64
    /// Bytes within the memory.
    package var offset: UInt64
    package var length: UInt64

    package init(digest: Digest, slot: UInt32, generation: UInt64, offset: UInt64, length: UInt64) {
        self.digest = digest
        self.slot = slot
        self.generation = generation
        self.offset = offset
        self.length = length
    }
}

/// Header of one payload frame of at most 1 MiB, either way (GET answers and PUT_CHUNK).
package struct Chunk: Sendable, Hashable {
    package var digest: Digest
    package var offset: UInt64
    package var length: UInt32
    /// CRC-32C of the payload frame.
    package var crc: UInt32

    package init(digest: Digest, offset: UInt64, length: UInt32, crc: UInt32) {
        self.digest = digest
        self.offset = offset
        self.length = length
        self.crc = crc
    }
}

/// Receiver → sender: `bytes` more may be outstanding.
package struct Credit: Sendable, Hashable {
    package var digest: Digest
    package var bytes: UInt32

    package init(digest: Digest, bytes: UInt32) {
        self.digest = digest
        self.bytes = bytes
    }
}

/// Producer → store: a blob of `size` bytes will follow; answered by CREDIT, STORED (already there), BUSY or ERROR.
package struct PutOpen: Sendable, Hashable {
    package var digest: Digest
    package var size: UInt64
    /// The broker's permission; needed by stores behind CURVE.
    package var ticket: Ticket?

    package init(digest: Digest, size: UInt64, ticket: Ticket? = nil) {
        self.digest = digest
        self.size = size
        self.ticket = ticket
    }
}
