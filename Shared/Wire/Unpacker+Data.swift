import CProtobufC
import CWire
import Failure

extension Unpacker {
    func get(_ raw: Zoetrope__Get) throws(Failure) -> Get {
        try visit(raw.base)
        return Get(
            digest: try digest(raw.digest), offset: raw.offset, length: raw.length, window: raw.window,
            ticket: try ticket(raw.ticket), memory: try memoryWish(raw.memory))
    }

    private func memoryWish(_ raw: UnsafeMutablePointer<Zoetrope__MemoryWish>?) throws(Failure) -> MemoryWish? {
        guard let raw = raw?.pointee else { return nil }
        try visit(raw.base)
        if raw.proof.len > 0 { try Bounds.check(secret: raw.proof.len, "get.memory.proof") }
        return MemoryWish(proof: bytes(raw.proof))
    }

    func memoryInvitation(_ raw: Zoetrope__MemoryInvitation) throws(Failure) -> MemoryInvitation {
        try visit(raw.base)
        let socket = try text(raw.socket, "memory_invitation.socket")
        try Bounds.check(socket: socket, "memory_invitation.socket")
        try Bounds.check(secret: raw.token.len, "memory_invitation.token")
        return MemoryInvitation(digest: try digest(raw.digest), socket: socket, token: bytes(raw.token))
    }

    func memorySlot(_ raw: Zoetrope__MemorySlot) throws(Failure) -> MemorySlot {
        try visit(raw.base)
        return MemorySlot(
            digest: try digest(raw.digest), slot: raw.slot, generation: raw.generation, offset: raw.offset,
            length: raw.length)
    }

    func chunk(_ raw: Zoetrope__Chunk) throws(Failure) -> Chunk {
        try visit(raw.base)
        try Bounds.check(bytes: Int(raw.length), limit: Limits.chunkBytes, "chunk")
        return Chunk(digest: try digest(raw.digest), offset: raw.offset, length: raw.length, crc: raw.crc)
    }

    func credit(_ raw: Zoetrope__Credit) throws(Failure) -> Credit {
        try visit(raw.base)
        return Credit(digest: try digest(raw.digest), bytes: raw.bytes)
    }

    func blobName(_ raw: Zoetrope__BlobName) throws(Failure) -> Digest {
        try visit(raw.base)
        return try digest(raw.digest)
    }

    func putOpen(_ raw: Zoetrope__PutOpen) throws(Failure) -> PutOpen {
        try visit(raw.base)
        return PutOpen(digest: try digest(raw.digest), size: raw.size, ticket: try ticket(raw.ticket))
    }

    func busy(_ raw: Zoetrope__Busy) throws(Failure) -> UInt32 {
        try visit(raw.base)
        return raw.retry_after_milliseconds
    }
}
