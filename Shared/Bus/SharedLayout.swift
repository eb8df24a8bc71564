import Wire

/// What lies where in memory that a holder shares with one consumer (docs/protocol.md, "Shared memory").
///
/// | byte | what |
/// |---|---|
/// | 0 | `CVB1MEM` and a zero |
/// | 8 | the proof: 32 random bytes |
/// | 64 · (slot + 1) | the slot's generation: odd while nothing may be read, even while a blob lies there |
/// | 8192 | the blobs |
enum SharedLayout {
    static let magic = Array("CVB1MEM\0".utf8)
    static let proof = 8..<(8 + MemoryWish.proofBytes)
    static let slots = 64
    /// Each generation has a cache line to itself.
    static let slotStride = 64
    static let dataStart = 8192
    /// What a consumer maps at most: the largest blob and what stands before it.
    static let longest = UInt64(dataStart + Limits.tensorBytes)

    static func word(of slot: Int) -> Int { slotStride * (slot + 1) }
}

/// What goes over a memory socket: the consumer's greeting is the magic and the token, the holder's answer the magic
/// and a descriptor. The end of the connection is the end of everything that was lent over it.
enum SharedGreeting {
    static let magic = Array("CVM1".utf8)
    static let byteCount = 4 + MemoryWish.proofBytes
    /// The prefix of a memory socket's file name: an invitation to another file is not followed.
    static let filePrefix = "memory-"
}

enum Secrets {
    /// `MemoryWish.proofBytes` bytes that nobody can guess.
    static func random() -> [UInt8] {
        var generator = SystemRandomNumberGenerator()
        return (0..<MemoryWish.proofBytes).map { _ in UInt8.random(in: .min ... .max, using: &generator) }
    }
}
