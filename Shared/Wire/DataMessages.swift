/// Consumer → holder: send `length` bytes of the blob from `offset` on, at most `window` outstanding.
package struct Get: Sendable, Hashable {
    package var digest: Digest
    package var offset: UInt64
    package var length: UInt64
    package var window: UInt32
    /// The broker's permission; needed by holders behind CURVE.
    package var ticket: Ticket?

    package init(digest: Digest, offset: UInt64, length: UInt64, window: UInt32, ticket: Ticket? = nil) {
        self.digest = digest
        self.offset = offset
        self.length = length
        self.window = window
        self.ticket = ticket
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
