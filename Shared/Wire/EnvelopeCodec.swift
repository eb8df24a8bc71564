import CProtobufC
import CWire
package import Failure

/// Control frames of CVB/1: a 16-byte little-endian prelude and a protobuf.
///
/// | offset | size | field |
/// |---|---|---|
/// | 0 | 4 | magic `CVB1` |
/// | 4 | 1 + 1 | protocol major, minor |
/// | 6 | 2 | message type (`MessageKind`) |
/// | 8 | 4 | protobuf length, equal to the frame length − 16 |
/// | 12 | 4 | CRC-32C of bytes 0–11 and the protobuf |
///
/// The prelude rejects strangers, other versions and damaged frames before protobuf-c sees a byte.
package enum EnvelopeCodec {
    package static let magic = Array("CVB1".utf8)
    package static let major: UInt8 = 1
    package static let minor: UInt8 = 0
    package static let preludeBytes = 16

    /// The control frame of `envelope`.
    ///
    /// - Throws: `too_large` when a list, a text or the whole frame exceeds its bound in `Limits`; `malformed` for a
    ///   value that no receiver would accept (a shape that overflows, an address that is not one).
    package static func encode(_ envelope: Envelope) throws(Failure) -> [UInt8] {
        let arena = try Arena(capacity: Limits.arenaBytes)
        let packed = try Packer(arena: arena.handle).envelope(envelope)
        let size = zoetrope__envelope__get_packed_size(packed)
        guard preludeBytes + size <= Limits.controlFrameBytes else {
            throw Failure(
                "too_large",
                "\(envelope.message.messageKind) needs \(preludeBytes + size) bytes; "
                    + "a control frame holds \(Limits.controlFrameBytes)",
                field: "envelope")
        }
        var frame = [UInt8](repeating: 0, count: preludeBytes + size)
        frame.withUnsafeMutableBytes { bytes in
            bytes.copyBytes(from: magic)
            bytes[4] = major
            bytes[5] = minor
            bytes.storeBytes(of: envelope.message.kind.littleEndian, toByteOffset: 6, as: UInt16.self)
            bytes.storeBytes(of: UInt32(size).littleEndian, toByteOffset: 8, as: UInt32.self)
            if let body = bytes.baseAddress?.advanced(by: preludeBytes) {
                zoetrope__envelope__pack(packed, body.assumingMemoryBound(to: UInt8.self))
            }
            let crc = checksum(UnsafeRawBufferPointer(bytes))
            bytes.storeBytes(of: crc.littleEndian, toByteOffset: 12, as: UInt32.self)
        }
        return frame
    }

    /// The envelope in a control frame.
    ///
    /// - Parameter senders: roles the peer may have; a message that none of them sends is refused.
    /// - Throws: `bad_magic`, `version_unsupported`, `bad_crc`, `too_large`, `malformed`, or `unexpected` (an unknown
    ///   type, or one that the peer's role may not send).
    package static func decode(
        _ frame: UnsafeRawBufferPointer, from senders: Role = .any
    ) throws(Failure) -> Envelope {
        let kind = try checkPrelude(frame, from: senders)
        let arena = try Arena(capacity: Limits.arenaBytes)
        let body = frame.baseAddress?.advanced(by: preludeBytes).assumingMemoryBound(to: UInt8.self)
        let allocator = cw_arena_allocator(arena.handle)
        guard let unpacked = zoetrope__envelope__unpack(allocator, frame.count - preludeBytes, body) else {
            throw Failure(
                "malformed", "\(kind) of \(frame.count) bytes is not a protobuf, or unpacks to more than its share")
        }
        let envelope = try Unpacker().envelope(unpacked.pointee)
        guard envelope.message.messageKind == kind else {
            throw Failure("malformed", "the prelude says \(kind), the body \(envelope.message.messageKind)")
        }
        return envelope
    }

    package static func decode(_ frame: [UInt8], from senders: Role = .any) throws(Failure) -> Envelope {
        // `withUnsafeBytes` rethrows untyped, so the result travels out as a value.
        let result = frame.withUnsafeBytes { bytes in
            Result { () throws(Failure) -> Envelope in try decode(bytes, from: senders) }
        }
        return try result.get()
    }

    private static func checkPrelude(_ frame: UnsafeRawBufferPointer, from senders: Role) throws(Failure) -> MessageKind
    {
        guard frame.count <= Limits.controlFrameBytes else {
            throw Failure("too_large", "a control frame of \(frame.count) bytes; at most \(Limits.controlFrameBytes)")
        }
        guard frame.count >= preludeBytes, frame.prefix(4).elementsEqual(magic) else {
            throw Failure("bad_magic", "a frame of \(frame.count) bytes does not begin with CVB1")
        }
        guard frame[4] == major else {
            throw Failure(
                "version_unsupported", "the peer speaks CVB/\(frame[4]).\(frame[5]), this build CVB/\(major).\(minor)",
                remedy: "Run the same release on both sides.")
        }
        let rawKind = UInt16(littleEndian: frame.loadUnaligned(fromByteOffset: 6, as: UInt16.self))
        let length = UInt32(littleEndian: frame.loadUnaligned(fromByteOffset: 8, as: UInt32.self))
        let crc = UInt32(littleEndian: frame.loadUnaligned(fromByteOffset: 12, as: UInt32.self))
        guard Int(length) == frame.count - preludeBytes else {
            throw Failure("malformed", "the prelude announces \(length) bytes, \(frame.count - preludeBytes) follow")
        }
        guard crc == checksum(frame) else {
            throw Failure("bad_crc", "a control frame of \(frame.count) bytes was damaged on its way")
        }
        guard let kind = MessageKind(rawValue: rawKind) else {
            throw Failure("unexpected", "message type 0x\(String(rawKind, radix: 16)) is not known here")
        }
        guard !kind.senders.isDisjoint(with: senders) else {
            throw Failure("unexpected", "\(kind) may not be sent to this side")
        }
        return kind
    }

    /// CRC-32C of everything but the checksum itself.
    private static func checksum(_ frame: UnsafeRawBufferPointer) -> UInt32 {
        let head = Checksum.crc32c(UnsafeRawBufferPointer(rebasing: frame[0..<12]))
        return Checksum.crc32c(UnsafeRawBufferPointer(rebasing: frame[preludeBytes...]), continuing: head)
    }
}
