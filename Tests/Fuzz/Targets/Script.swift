import Bus
import Failure
import Wire

/// Messages of the data plane from the bytes of an input.
enum Script {
    private static let session = SessionID.random()

    static func frame(_ message: Message, sequence: UInt64, inReplyTo: UInt64 = 0) throws -> [UInt8] {
        try EnvelopeCodec.encode(
            Envelope(
                session: session, sequence: sequence, brokerEpoch: 0, inReplyTo: inReplyTo, message: message))
    }

    /// What a client may send, sound or not; nil when the values cannot even be encoded.
    static func request(_ reader: inout InputReader, base: UInt64) -> [[UInt8]]? {
        let kind = reader.byte()
        let content = Contents.all[Int(reader.byte() % 4)]
        let digest = Digest.of(content)
        let transfer = base + UInt64(reader.byte() % 8)
        let isSound = kind & 0x80 == 0
        switch kind % 8 {
        case 0:
            let size = isSound ? UInt64(content.count) : reader.quantity()
            return message(.putOpen(PutOpen(digest: digest, size: size)), sequence: transfer)
        case 1, 2: return chunk(&reader, content, isSound: isSound, inReplyTo: transfer) { .putChunk($0) }
        case 3: return message(.putDone(digest), sequence: base + 60, inReplyTo: transfer)
        case 4:
            let get = Get(
                digest: digest, offset: isSound ? 0 : reader.quantity(),
                length: isSound ? UInt64(content.count) : reader.quantity(),
                window: UInt32(truncatingIfNeeded: reader.quantity()))
            return message(.get(get), sequence: transfer)
        case 5:
            let bytes = UInt32(truncatingIfNeeded: reader.quantity())
            return message(.credit(Credit(digest: digest, bytes: bytes)), sequence: base + 60, inReplyTo: transfer)
        case 6: return message(.stop(digest), sequence: base + 60, inReplyTo: transfer)
        default: return rubbish(&reader)
        }
    }

    /// What a holder may answer to the GET of `sequence` for `content`.
    static func answer(_ reader: inout InputReader, content: [UInt8], to sequence: UInt64) -> [[UInt8]]? {
        let kind = reader.byte()
        let digest = Digest.of(content)
        let isSound = kind & 0x80 == 0
        let reply = isSound ? sequence : sequence &+ UInt64(reader.byte())
        switch kind % 8 {
        case 0, 1, 2: return chunk(&reader, content, isSound: isSound, inReplyTo: reply) { .chunk($0) }
        case 3: return message(.credit(Credit(digest: digest, bytes: 100)), sequence: 1, inReplyTo: reply)
        case 4:
            let delay = UInt32(reader.byte() % 3)
            return message(.busy(retryAfterMilliseconds: delay), sequence: 1, inReplyTo: reply)
        case 5: return message(.stored(digest), sequence: 1, inReplyTo: reply)
        case 6:
            let failure = Failure(["bad_crc", "io_error", "malformed"][Int(reader.byte() % 3)], "scripted")
            return message(.error(ErrorReply(failure)), sequence: 1, inReplyTo: reply)
        default: return rubbish(&reader)
        }
    }

    private static func chunk(
        _ reader: inout InputReader, _ content: [UInt8], isSound: Bool, inReplyTo: UInt64, _ wrap: (Chunk) -> Message
    ) -> [[UInt8]]? {
        let offset = isSound ? UInt64(reader.integer16()) : reader.quantity()
        let count = Int(reader.integer16() % 6000)
        let start = Int(min(offset, UInt64(content.count)))
        var payload = Array(content[start..<min(content.count, start + count)])
        var crc = payload.withUnsafeBytes { Checksum.crc32c($0) }
        var length = UInt32(payload.count)
        if !isSound {
            let damage = reader.byte()
            if damage & 1 != 0, !payload.isEmpty { payload[Int(damage) % payload.count] ^= 1 }
            if damage & 2 != 0 { crc = payload.withUnsafeBytes { Checksum.crc32c($0) } }
            if damage & 4 != 0 { length = UInt32(truncatingIfNeeded: reader.quantity()) }
            if damage & 8 != 0 { payload += reader.bytes(8) }
        }
        let body = Chunk(digest: Digest.of(content), offset: offset, length: length, crc: crc)
        guard let control = message(wrap(body), sequence: 1, inReplyTo: inReplyTo) else { return nil }
        return control + [payload]
    }

    private static func rubbish(_ reader: inout InputReader) -> [[UInt8]] {
        (0...Int(reader.byte() % 3)).map { _ in reader.bytes(Int(reader.byte() % 64)) }
    }

    private static func message(_ message: Message, sequence: UInt64, inReplyTo: UInt64 = 0) -> [[UInt8]]? {
        (try? frame(message, sequence: sequence, inReplyTo: inReplyTo)).map { [$0] }
    }
}
