/// The public half of a CURVE key pair (32 bytes): who a process is on the bus.
///
/// As text it is Z85 (ZeroMQ RFC 32), 40 characters, which is what `zoetrope keys` prints.
package struct PublicKey: Sendable, Hashable, CustomStringConvertible {
    package static let byteCount = 32
    package let bytes: [UInt8]

    /// - Parameter bytes: exactly 32 bytes.
    package init?(bytes: [UInt8]) {
        guard bytes.count == PublicKey.byteCount else { return nil }
        self.bytes = bytes
    }

    /// Reads the 40 characters of Z85.
    package init?(text: String) {
        guard let bytes = Z85.decode(text), bytes.count == PublicKey.byteCount else { return nil }
        self.bytes = bytes
    }

    /// The key in Z85.
    package var description: String { Z85.encode(bytes) }
}

/// ZeroMQ's text form of binary keys (RFC 32): four bytes are five characters.
package enum Z85 {
    private static let characters = Array(
        "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.-:+=^!/*?&<>()[]{}@%$#".utf8)

    /// - Parameter bytes: a multiple of four bytes.
    package static func encode(_ bytes: [UInt8]) -> String {
        precondition(bytes.count.isMultiple(of: 4), "Z85 of \(bytes.count) bytes")
        var text: [UInt8] = []
        for start in stride(from: 0, to: bytes.count, by: 4) {
            var value = bytes[start..<start + 4].reduce(UInt32(0)) { $0 << 8 | UInt32($1) }
            var group: [UInt8] = []
            for _ in 0..<5 {
                group.append(characters[Int(value % 85)])
                value /= 85
            }
            text += group.reversed()
        }
        return String(decoding: text, as: UTF8.self)
    }

    /// The bytes, or nil for text that is no Z85.
    package static func decode(_ text: String) -> [UInt8]? {
        let digits = Array(text.utf8)
        guard !digits.isEmpty, digits.count.isMultiple(of: 5) else { return nil }
        var bytes: [UInt8] = []
        for start in stride(from: 0, to: digits.count, by: 5) {
            var value: UInt64 = 0
            for digit in digits[start..<start + 5] {
                guard let place = characters.firstIndex(of: digit) else { return nil }
                value = value * 85 + UInt64(place)
            }
            guard let group = UInt32(exactly: value) else { return nil }
            for shift in [24, 16, 8, 0] as [UInt32] { bytes.append(UInt8(truncatingIfNeeded: group >> shift)) }
        }
        return bytes
    }
}
