/// 16 random bytes that name one run of one process: a restarted process is another session.
package struct SessionID: Sendable, Hashable, Comparable, CustomStringConvertible {
    // Two words instead of an array: sessions are keys of many tables and are copied with every message.
    private let high: UInt64
    private let low: UInt64

    /// - Parameter bytes: exactly 16 bytes.
    package init?(bytes: [UInt8]) {
        guard bytes.count == 16 else { return nil }
        high = word(bytes, 0)
        low = word(bytes, 1)
    }

    private init(high: UInt64, low: UInt64) {
        self.high = high
        self.low = low
    }

    package static func random() -> SessionID {
        var generator = SystemRandomNumberGenerator()
        return SessionID(high: generator.next(), low: generator.next())
    }

    package var bytes: [UInt8] { bigEndianBytes([high, low]) }

    /// The order of the bytes.
    package static func < (left: SessionID, right: SessionID) -> Bool {
        left.high != right.high ? left.high < right.high : left.low < right.low
    }

    package var description: String { hexadecimal(bytes) }
}

/// Names a stage task: the job it belongs to and its name inside the job (`denoise`, `decode-0`).
package struct TaskID: Sendable, Hashable, CustomStringConvertible {
    package var job: String
    package var name: String

    package init(job: String, name: String) {
        self.job = job
        self.name = name
    }

    package var description: String { "\(job)/\(name)" }
}

/// The SHA-256 of a blob: its identity on the data plane.
package struct Digest: Sendable, Hashable, Comparable, CustomStringConvertible {
    private let words: (UInt64, UInt64, UInt64, UInt64)

    /// - Parameter bytes: exactly 32 bytes.
    package init?(bytes: [UInt8]) {
        guard bytes.count == 32 else { return nil }
        words = (word(bytes, 0), word(bytes, 1), word(bytes, 2), word(bytes, 3))
    }

    /// - Parameter sha256: the 32 bytes that the hash function returned.
    init(sha256: [UInt8]) {
        precondition(sha256.count == 32, "a SHA-256 has 32 bytes")
        words = (word(sha256, 0), word(sha256, 1), word(sha256, 2), word(sha256, 3))
    }

    /// - Parameter words: the bytes in groups of eight, each big-endian.
    package init(words: (UInt64, UInt64, UInt64, UInt64)) { self.words = words }

    package init?(hexadecimal text: String) {
        guard let bytes = bytesFromHexadecimal(text) else { return nil }
        self.init(bytes: bytes)
    }

    package var bytes: [UInt8] { bigEndianBytes([words.0, words.1, words.2, words.3]) }

    /// The first eight bytes, big-endian.
    package var prefix: UInt64 { words.0 }

    package static func == (left: Digest, right: Digest) -> Bool { left.words == right.words }

    /// The order of the bytes.
    package static func < (left: Digest, right: Digest) -> Bool { left.words < right.words }

    package func hash(into hasher: inout Hasher) {
        hasher.combine(words.0)
        hasher.combine(words.1)
        hasher.combine(words.2)
        hasher.combine(words.3)
    }

    /// Lower-case hexadecimal, 64 characters.
    package var description: String { hexadecimal(bytes) }
}

/// Word `index` of big-endian bytes.
private func word(_ bytes: [UInt8], _ index: Int) -> UInt64 {
    bytes.withUnsafeBytes { UInt64(bigEndian: $0.loadUnaligned(fromByteOffset: 8 * index, as: UInt64.self)) }
}

private func bigEndianBytes(_ words: [UInt64]) -> [UInt8] {
    words.flatMap { word in withUnsafeBytes(of: word.bigEndian) { Array($0) } }
}

package func hexadecimal(_ bytes: some Sequence<UInt8>) -> String {
    let digits = Array("0123456789abcdef".utf8)
    var text: [UInt8] = []
    for byte in bytes {
        text.append(digits[Int(byte >> 4)])
        text.append(digits[Int(byte & 15)])
    }
    return String(decoding: text, as: UTF8.self)
}

package func bytesFromHexadecimal(_ text: String) -> [UInt8]? {
    let characters = Array(text.utf8)
    guard characters.count.isMultiple(of: 2) else { return nil }
    var bytes: [UInt8] = []
    bytes.reserveCapacity(characters.count / 2)
    for index in stride(from: 0, to: characters.count, by: 2) {
        guard let high = nibble(characters[index]), let low = nibble(characters[index + 1]) else { return nil }
        bytes.append(high << 4 | low)
    }
    return bytes
}

private func nibble(_ character: UInt8) -> UInt8? {
    switch character {
    case UInt8(ascii: "0")...UInt8(ascii: "9"): character - UInt8(ascii: "0")
    case UInt8(ascii: "a")...UInt8(ascii: "f"): character - UInt8(ascii: "a") + 10
    case UInt8(ascii: "A")...UInt8(ascii: "F"): character - UInt8(ascii: "A") + 10
    default: nil
    }
}
