import Failure
import Wire

/// Frames as they come, and frames whose length and checksum were put right, because no fuzzer finds a CRC.
///
/// What is accepted must be sayable: its encoding is accepted again and means the same.
struct EnvelopeSubject: FuzzSubject {
    func run(_ input: [UInt8]) async throws {
        var reader = InputReader(input)
        let isRepaired = reader.byte() & 1 == 1
        let frame = isRepaired ? Self.repaired(reader.rest()) : reader.rest()
        let envelope: Envelope
        do throws(Failure) {
            envelope = try EnvelopeCodec.decode(frame)
        } catch {
            try Finding.require(!error.message.isEmpty, "a refusal without a reason: \(error.code)")
            return
        }
        let again: Envelope
        do throws(Failure) {
            again = try EnvelopeCodec.decode(EnvelopeCodec.encode(envelope))
        } catch {
            throw Finding("accepted \(envelope), but its own encoding is refused: \(error)")
        }
        try Finding.require(again == envelope, "\(envelope) becomes \(again)")
    }

    /// A whole frame around a message type and a protobuf.
    private static func repaired(_ input: [UInt8]) -> [UInt8] {
        var frame = EnvelopeCodec.magic + [EnvelopeCodec.major, EnvelopeCodec.minor]
        frame += input.prefix(2) + [UInt8](repeating: 0, count: max(0, 2 - input.count))
        let body = Array(input.dropFirst(2))
        withUnsafeBytes(of: UInt32(body.count).littleEndian) { frame += Array($0) }
        let crc = (frame + body).withUnsafeBytes { Checksum.crc32c($0) }
        withUnsafeBytes(of: crc.littleEndian) { frame += Array($0) }
        return frame + body
    }
}
