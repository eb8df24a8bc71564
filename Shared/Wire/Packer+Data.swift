import CProtobufC
import CWire
import Failure

extension Packer {
    func get(_ get: Get) throws(Failure) -> UnsafeMutablePointer<Zoetrope__Get> {
        let result = try make(zoetrope__get__init)
        result.pointee.digest = try digest(get.digest)
        result.pointee.offset = get.offset
        result.pointee.length = get.length
        result.pointee.window = get.window
        if let ticket = get.ticket { result.pointee.ticket = try bytes(ticket.bytes) }
        if let memory = get.memory {
            let wish = try make(zoetrope__memory_wish__init)
            if !memory.proof.isEmpty { wish.pointee.proof = try secret(memory.proof, "get.memory.proof") }
            result.pointee.memory = wish
        }
        return result
    }

    func memoryInvitation(
        _ invitation: MemoryInvitation
    ) throws(Failure) -> UnsafeMutablePointer<Zoetrope__MemoryInvitation> {
        try Bounds.check(socket: invitation.socket, "memory_invitation.socket")
        let result = try make(zoetrope__memory_invitation__init)
        result.pointee.digest = try digest(invitation.digest)
        result.pointee.socket = try text(invitation.socket, "memory_invitation.socket")
        result.pointee.token = try secret(invitation.token, "memory_invitation.token")
        return result
    }

    func memorySlot(_ slot: MemorySlot) throws(Failure) -> UnsafeMutablePointer<Zoetrope__MemorySlot> {
        let result = try make(zoetrope__memory_slot__init)
        result.pointee.digest = try digest(slot.digest)
        result.pointee.slot = slot.slot
        result.pointee.generation = slot.generation
        result.pointee.offset = slot.offset
        result.pointee.length = slot.length
        return result
    }

    private func secret(_ secret: [UInt8], _ field: String) throws(Failure) -> ProtobufCBinaryData {
        try Bounds.check(secret: secret.count, field)
        return try bytes(secret)
    }

    func chunk(_ chunk: Chunk) throws(Failure) -> UnsafeMutablePointer<Zoetrope__Chunk> {
        try Bounds.check(bytes: Int(chunk.length), limit: Limits.chunkBytes, "chunk")
        let result = try make(zoetrope__chunk__init)
        result.pointee.digest = try digest(chunk.digest)
        result.pointee.offset = chunk.offset
        result.pointee.length = chunk.length
        result.pointee.crc = chunk.crc
        return result
    }

    func credit(_ credit: Credit) throws(Failure) -> UnsafeMutablePointer<Zoetrope__Credit> {
        let result = try make(zoetrope__credit__init)
        result.pointee.digest = try digest(credit.digest)
        result.pointee.bytes = credit.bytes
        return result
    }

    func blobName(_ name: Digest) throws(Failure) -> UnsafeMutablePointer<Zoetrope__BlobName> {
        let result = try make(zoetrope__blob_name__init)
        result.pointee.digest = try digest(name)
        return result
    }

    func putOpen(_ open: PutOpen) throws(Failure) -> UnsafeMutablePointer<Zoetrope__PutOpen> {
        let result = try make(zoetrope__put_open__init)
        result.pointee.digest = try digest(open.digest)
        result.pointee.size = open.size
        if let ticket = open.ticket { result.pointee.ticket = try bytes(ticket.bytes) }
        return result
    }

    func busy(retryAfterMilliseconds: UInt32) throws(Failure) -> UnsafeMutablePointer<Zoetrope__Busy> {
        let result = try make(zoetrope__busy__init)
        result.pointee.retry_after_milliseconds = retryAfterMilliseconds
        return result
    }
}
