import Failure
import FoundationEssentials
import Tensor
import TestSupport
import Testing
import Wire

@Suite struct EnvelopeCodecTests {
    @Test("every message survives the wire unchanged", arguments: Samples.messages)
    func roundTrip(message: Message) throws {
        let envelope = Samples.envelope(message)
        #expect(try EnvelopeCodec.decode(EnvelopeCodec.encode(envelope)) == envelope)
    }

    @Test("the samples hold every kind of message once")
    func samplesAreComplete() {
        #expect(Samples.messages.map(\.messageKind) == MessageKind.allCases)
        #expect(Set(MessageKind.allCases.map(\.description)).count == MessageKind.allCases.count)
    }

    @Test("the bytes of every message are those of the released protocol")
    func goldenBytes() throws {
        let folder = URL(filePath: #filePath).deletingLastPathComponent().appending(path: "Golden")
        for message in Samples.messages {
            let frame = try EnvelopeCodec.encode(Samples.envelope(message))
            let file = folder.appending(path: "\(message.messageKind).hex")
            if ProcessInfo.processInfo.environment["ZOETROPE_RECORD_GOLDEN"] == "1" {
                try lines(frame).write(to: file, atomically: true, encoding: .utf8)
            }
            let text = try String(contentsOf: file, encoding: .utf8).filter { !$0.isNewline }
            let golden = try #require(bytesFromHexadecimal(text), "\(file.path)")
            #expect(try EnvelopeCodec.decode(golden) == Samples.envelope(message), "\(message.messageKind)")
            #expect(frame == golden, "\(message.messageKind)")
        }
    }

    private func lines(_ bytes: [UInt8]) -> String {
        stride(from: 0, to: bytes.count, by: 32).map {
            hexadecimal(bytes[$0..<min($0 + 32, bytes.count)]) + "\n"
        }.joined()
    }

    @Test("a frame that is damaged, cut, from another version or no frame at all is refused by name")
    func damagedFrames() throws {
        let frame = try EnvelopeCodec.encode(Samples.envelope(.beat(Samples.beat)))
        func changed(_ offset: Int, _ value: UInt8) -> [UInt8] {
            var copy = frame
            copy[offset] = value
            return copy
        }
        #expect(code(of: []) == "bad_magic")
        #expect(code(of: Array("GET / HTTP/1.1\r\n\r\n".utf8)) == "bad_magic")
        #expect(code(of: changed(3, UInt8(ascii: "2"))) == "bad_magic")
        #expect(code(of: changed(4, 2)) == "version_unsupported")
        #expect(code(of: changed(6, frame[6] ^ 1)) == "bad_crc")
        #expect(code(of: changed(12, frame[12] ^ 1)) == "bad_crc")
        #expect(code(of: changed(frame.count - 1, frame[frame.count - 1] ^ 1)) == "bad_crc")
        #expect(code(of: Array(frame.dropLast())) == "malformed")
        #expect(code(of: frame + [0]) == "malformed")
        #expect(code(of: [UInt8](repeating: 0, count: 64 * 1024 + 1)) == "too_large")
    }

    @Test("a valid prelude does not make a valid message")
    func sealedNonsense() throws {
        #expect(code(of: seal(kind: 0x0999, [])) == "unexpected")
        // An empty protobuf is a valid envelope for protobuf-c: no session, no body.
        #expect(code(of: seal(kind: MessageKind.needHello.rawValue, [])) == "malformed")
        #expect(code(of: seal(kind: MessageKind.beat.rawValue, [0xff, 0xff, 0xff])) == "malformed")
        // The prelude names one message, the body holds another.
        let body = Array(try EnvelopeCodec.encode(Samples.envelope(.goodbye)).dropFirst(16))
        #expect(code(of: seal(kind: MessageKind.needHello.rawValue, body)) == "malformed")
        #expect(code(of: seal(kind: MessageKind.goodbye.rawValue, body)) == nil)
    }

    @Test("a message from somebody whose role does not send it is unexpected")
    func roles() throws {
        let frame = try EnvelopeCodec.encode(Samples.envelope(.assign(Samples.assign)))
        #expect(throws: Never.self) { try EnvelopeCodec.decode(frame, from: .broker) }
        let failure = #expect(throws: Failure.self) { try EnvelopeCodec.decode(frame, from: [.worker, .client]) }
        #expect(failure?.code == "unexpected")
    }

    @Test("unknown fields of a later minor version are ignored, a flood of them is refused")
    func unknownFields() throws {
        let body = Array(try EnvelopeCodec.encode(Samples.envelope(.goodbye)).dropFirst(16))
        // Field 1000, a varint: tag 0xc0 0x3e, value 1.
        func flooded(_ count: Int) -> [UInt8] {
            seal(kind: MessageKind.goodbye.rawValue, body + (0..<count).flatMap { _ in [0xc0, 0x3e, 0x01] as [UInt8] })
        }
        #expect(try EnvelopeCodec.decode(flooded(Limits.unknownFields)).message == .goodbye)
        #expect(code(of: flooded(Limits.unknownFields + 1)) == "malformed")
    }

    @Test("a frame that asks for more memory than its share is refused")
    func memoryBomb() throws {
        // Beat (field 19) full of empty running tasks (field 2): two bytes each on the wire, a whole struct in memory.
        let tasks = (0..<30_000).flatMap { _ in [0x12, 0x00] as [UInt8] }
        let length = [
            UInt8(tasks.count & 0x7f) | 0x80, UInt8((tasks.count >> 7) & 0x7f) | 0x80, UInt8(tasks.count >> 14),
        ]
        let session: [UInt8] = [0x0a, 16] + Array(0..<16)
        #expect(
            code(of: seal(kind: MessageKind.beat.rawValue, session + [0x9a, 0x01] + length + tasks)) == "malformed")
    }

    @Test("100,000 random mutations of valid frames never crash and never change their meaning unnoticed")
    func mutations() throws {
        var generator = SeededGenerator(seed: 20_26)
        let frames = try Samples.messages.map { try EnvelopeCodec.encode(Samples.envelope($0)) }
        var refused = 0
        for round in 0..<100_000 {
            var frame = frames[round % frames.count]
            for _ in 0..<Int.random(in: 1...4, using: &generator) {
                guard frame.count > 17 else { break }
                let index = Int.random(in: 16..<frame.count, using: &generator)
                switch Int.random(in: 0..<4, using: &generator) {
                case 0: frame[index] = UInt8.random(in: 0...255, using: &generator)
                case 1: frame[index] ^= 1 << UInt8.random(in: 0..<8, using: &generator)
                case 2: frame.remove(at: index)
                default: frame.insert(UInt8.random(in: 0...255, using: &generator), at: index)
                }
            }
            // Sealed again, so that protobuf-c and the checks behind it see the damage and not only the checksum.
            let kind = UInt16(frame[6]) | UInt16(frame[7]) << 8
            do throws(Failure) {
                let envelope = try EnvelopeCodec.decode(seal(kind: kind, Array(frame.dropFirst(16))))
                let again = try EnvelopeCodec.decode(EnvelopeCodec.encode(envelope))
                #expect(again == envelope)
            } catch {
                #expect(["malformed", "too_large", "unexpected"].contains(error.code), "\(error)")
                refused += 1
            }
        }
        #expect(refused > 20_000 && refused < 100_000)
    }

    private func code(of frame: [UInt8]) -> String? {
        do throws(Failure) {
            _ = try EnvelopeCodec.decode(frame)
            return nil
        } catch {
            return error.code
        }
    }
}

/// A control frame with a correct prelude around any body.
func seal(kind: UInt16, _ body: [UInt8]) -> [UInt8] {
    var frame = EnvelopeCodec.magic + [1, 0, UInt8(kind & 0xff), UInt8(kind >> 8)]
    frame += (0..<4).map { UInt8(truncatingIfNeeded: body.count >> ($0 * 8)) }
    let crc = (frame + body).withUnsafeBytes { Checksum.crc32c($0) }
    return frame + (0..<4).map { UInt8(truncatingIfNeeded: crc >> ($0 * 8)) } + body
}
