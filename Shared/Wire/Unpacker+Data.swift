import CProtobufC
import CWire
import Failure

extension Unpacker {
    func get(_ raw: Zoetrope__Get) throws(Failure) -> Get {
        try visit(raw.base)
        return Get(
            digest: try digest(raw.digest), offset: raw.offset, length: raw.length, window: raw.window,
            ticket: try ticket(raw.ticket))
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
