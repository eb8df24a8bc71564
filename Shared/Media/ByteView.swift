/// Bytes of a file that anybody may have made: every read is checked.
struct ByteView {
    let bytes: UnsafeRawBufferPointer

    var count: Int { bytes.count }

    init(_ bytes: UnsafeRawBufferPointer) { self.bytes = bytes }

    func byte(_ offset: Int) -> Int? { offset >= 0 && offset < bytes.count ? Int(bytes[offset]) : nil }

    /// An unsigned integer of `size` bytes (up to 4).
    func integer(_ offset: Int, size: Int, isBigEndian: Bool) -> Int? {
        guard offset >= 0, offset <= count - size else { return nil }
        return (0..<size).reduce(0) { value, place in
            value << 8 | Int(bytes[offset + (isBigEndian ? place : size - 1 - place)])
        }
    }

    func big16(_ offset: Int) -> Int? { integer(offset, size: 2, isBigEndian: true) }
    func big32(_ offset: Int) -> Int? { integer(offset, size: 4, isBigEndian: true) }
    func little16(_ offset: Int) -> Int? { integer(offset, size: 2, isBigEndian: false) }
    func little32(_ offset: Int) -> Int? { integer(offset, size: 4, isBigEndian: false) }

    /// Whether the ASCII characters of `text` stand at `offset`.
    func has(_ text: StaticString, at offset: Int) -> Bool {
        guard offset >= 0, offset <= count - text.utf8CodeUnitCount else { return false }
        return text.withUTF8Buffer { wanted in
            wanted.indices.allSatisfy { wanted[$0] == bytes[offset + $0] }
        }
    }

    /// Bytes `begin ..< begin + length`, nil when they are not all there.
    func part(_ begin: Int, _ length: Int) -> ByteView? {
        guard begin >= 0, length >= 0, begin <= count, length <= count - begin else { return nil }
        return ByteView(UnsafeRawBufferPointer(rebasing: bytes[begin..<(begin + length)]))
    }
}
