import Failure
import Tensor

/// The directory of a ZIP file whose entries are stored and not compressed, as `torch.save` writes them; nothing is
/// copied. Reads ZIP64, because released checkpoints exceed 4 GB (PKWARE's APPNOTE, 4.3 to 4.5).
struct ZipArchive: Sendable {
    struct Entry: Sendable {
        let range: Range<Int>
        let crc32: UInt32
    }

    /// The file's name in messages.
    let label: String
    let entries: [String: Entry]
    private let bytes: Tensor

    private static let endSize = 22, locatorSize = 20, largeEndSize = 56, centralSize = 46, localSize = 30
    private static let largestComment = 65_535
    /// More entries than any checkpoint has tensors.
    private static let largestCount = 1 << 20

    /// Reads the directory of the file that `bytes`, a uint8 tensor, holds. Failure: `torch_file_invalid`.
    init(bytes: Tensor, label: String) throws(Failure) {
        self.bytes = bytes
        self.label = label
        let reader = Reader(bytes: bytes, label: label)
        let directory = try Self.directory(reader)
        guard directory.count <= Self.largestCount else {
            throw reader.invalid("its directory is said to have \(directory.count) entries")
        }
        var entries: [String: Entry] = [:]
        var position = directory.start
        for _ in 0..<directory.count {
            let (name, entry, next) = try Self.entry(reader, at: position, end: directory.end)
            guard entries.updateValue(entry, forKey: name) == nil else {
                throw reader.invalid("the entry \(name) occurs twice")
            }
            position = next
        }
        self.entries = entries
    }

    /// The bytes of an entry as a uint8 tensor over the mapped file.
    func content(_ entry: Entry) -> Tensor { bytes.rows(entry.range) }

    /// Compares an entry's bytes with its checksum. Failure: `torch_file_checksum`.
    func verify(_ name: String) throws(Failure) {
        guard let entry = entries[name] else { return }
        let content = content(entry)
        guard content.withUnsafeBytes(CRC32.of) == entry.crc32 else {
            throw Failure(
                "torch_file_checksum", "\(label): the entry \(name) does not have the checksum of its directory.",
                field: name, remedy: "Fetch the file again.")
        }
    }

    // MARK: Parts

    private static func directory(_ reader: Reader) throws(Failure) -> (start: Int, end: Int, count: Int) {
        let end = try findEnd(reader)
        var count = try Int(reader.short(end + 10))
        var size = try Int(reader.word(end + 12))
        var start = try Int(reader.word(end + 16))
        if count == 0xffff || size == 0xffff_ffff || start == 0xffff_ffff {
            guard end >= locatorSize, try reader.word(end - locatorSize) == 0x0706_4b50 else {
                throw reader.invalid("its ZIP64 directory is missing")
            }
            let large = try reader.long(end - locatorSize + 8)
            guard try reader.word(large) == 0x0606_4b50 else { throw reader.invalid("its ZIP64 directory is missing") }
            count = try reader.long(large + 32)
            size = try reader.long(large + 40)
            start = try reader.long(large + 48)
        }
        guard start <= end, size <= end - start else { throw reader.invalid("its directory lies outside the file") }
        return (start, start + size, count)
    }

    /// The end record stands before a comment of at most 64 KiB.
    private static func findEnd(_ reader: Reader) throws(Failure) -> Int {
        var position = reader.count - endSize
        let last = max(0, position - largestComment)
        while position >= last, position >= 0 {
            if try reader.word(position) == 0x0605_4b50,
                try Int(reader.short(position + 20)) == reader.count - position - endSize
            {
                return position
            }
            position -= 1
        }
        throw reader.invalid("it has no ZIP directory, so it is cut off or of another kind")
    }

    private static func entry(
        _ reader: Reader, at position: Int, end: Int
    ) throws(Failure) -> (name: String, entry: Entry, next: Int) {
        guard position <= end - centralSize, try reader.word(position) == 0x0201_4b50 else {
            throw reader.invalid("its directory ends early, at byte \(position)")
        }
        let nameCount = try Int(reader.short(position + 28)), extraCount = try Int(reader.short(position + 30))
        let commentCount = try Int(reader.short(position + 32))
        let extra = position + centralSize + nameCount
        let next = extra + extraCount + commentCount
        guard next <= end else { throw reader.invalid("its directory ends early, at byte \(position)") }
        let name = reader.text(position + centralSize, nameCount)
        guard try reader.short(position + 8) & 1 == 0 else { throw reader.invalid("the entry \(name) is encrypted") }
        guard try reader.short(position + 10) == 0 else {
            throw reader.invalid("the entry \(name) is compressed; torch.save stores entries as they are")
        }
        var large = LargeFields(reader: reader, position: extra, end: extra + extraCount)
        let size = try large.value(reader.word(position + 24))
        let storedSize = try large.value(reader.word(position + 20))
        let local = try large.value(reader.word(position + 42))
        guard size == storedSize else { throw reader.invalid("the entry \(name) has two sizes") }
        guard try reader.word(local) == 0x0403_4b50 else {
            throw reader.invalid("the entry \(name) is not where the directory says")
        }
        let start = try local + localSize + Int(reader.short(local + 26)) + Int(reader.short(local + 28))
        guard start <= reader.count, size <= reader.count - start else {
            throw reader.invalid("the entry \(name) goes beyond the end of the file")
        }
        return (name, Entry(range: start..<(start + size), crc32: try reader.word(position + 16)), next)
    }

    /// The ZIP64 extra field: 64-bit values for those of the entry that are all ones, in the entry's order.
    private struct LargeFields {
        private let reader: Reader
        private let end: Int
        private var position: Int?

        init(reader: Reader, position: Int, end: Int) {
            self.reader = reader
            var position = position, found: Int?, last = position
            while found == nil, position + 4 <= end, let kind = try? reader.short(position),
                let size = try? reader.short(position + 2)
            {
                if kind == 1 { (found, last) = (position + 4, min(end, position + 4 + Int(size))) }
                position += 4 + Int(size)
            }
            self.position = found
            self.end = last
        }

        mutating func value(_ small: UInt32) throws(Failure) -> Int {
            guard small == .max else { return Int(small) }
            guard let position, position + 8 <= end else { throw reader.invalid("a ZIP64 size is missing") }
            self.position = position + 8
            return try reader.long(position)
        }
    }

    /// Little-endian integers at checked places.
    private struct Reader {
        let bytes: Tensor
        let label: String
        var count: Int { bytes.byteCount }

        func invalid(_ what: String) -> Failure {
            Failure(
                "torch_file_invalid", "\(label) is no whole torch.save file: \(what).", field: label,
                remedy: "Fetch the file again and compare its digest with the source.")
        }

        private func integer<Value: FixedWidthInteger & BitwiseCopyable>(
            _ position: Int, as type: Value.Type
        ) throws(Failure) -> Value {
            guard position >= 0, position <= count - MemoryLayout<Value>.size else {
                throw invalid("it ends before byte \(position)")
            }
            return bytes.withUnsafeBytes { Value(littleEndian: $0.loadUnaligned(fromByteOffset: position, as: type)) }
        }

        func short(_ position: Int) throws(Failure) -> UInt16 { try integer(position, as: UInt16.self) }
        func word(_ position: Int) throws(Failure) -> UInt32 { try integer(position, as: UInt32.self) }

        /// A 64-bit size or place, which must lie inside the file.
        func long(_ position: Int) throws(Failure) -> Int {
            let value = try integer(position, as: UInt64.self)
            guard value <= UInt64(count) else { throw invalid("a size of \(value) bytes exceeds the file") }
            return Int(value)
        }

        /// The range must lie inside the file.
        func text(_ position: Int, _ length: Int) -> String {
            bytes.withUnsafeBytes { String(decoding: $0[position..<(position + length)], as: UTF8.self) }
        }
    }
}
