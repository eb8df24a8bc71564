import Failure

/// Reads the JSON of a safetensors header: an object of entries and one object of strings. Anything else is an error,
/// so that no general JSON reader has to be trusted with duplicate keys and number ranges.
struct HeaderReader {
    private let bytes: UnsafeRawBufferPointer
    private let file: String
    private var position = 0

    init(bytes: UnsafeRawBufferPointer, file: String) {
        self.bytes = bytes
        self.file = file
    }

    func corrupt(_ what: String, key: String? = nil) -> Failure {
        SafetensorsHeader.corrupt(what, file: file, key: key)
    }

    private mutating func skipSpace() {
        while position < bytes.count, [0x20, 0x09, 0x0a, 0x0d].contains(bytes[position]) { position += 1 }
    }

    mutating func skips(_ character: Unicode.Scalar) -> Bool {
        skipSpace()
        guard position < bytes.count, bytes[position] == UInt8(ascii: character) else { return false }
        position += 1
        return true
    }

    mutating func expect(_ character: Unicode.Scalar) throws(Failure) {
        guard skips(character) else {
            throw corrupt("the header has no '\(character)' at byte \(position)")
        }
    }

    mutating func expectEnd() throws(Failure) {
        skipSpace()
        guard position == bytes.count else { throw corrupt("the header goes on after its end, at byte \(position)") }
    }

    // MARK: Entries

    mutating func entry(name: String) throws(Failure) -> SafetensorsEntry {
        var dtype: DType?
        var shape: [Int]?
        var offsets: [Int]?
        try expect("{")
        repeat {
            let key = try string()
            try expect(":")
            switch key {
            case "dtype" where dtype == nil:
                let text = try string()
                guard let known = DType(safetensorsName: text) else {
                    throw corrupt("dtype \(text) is not supported", key: name)
                }
                dtype = known
            case "shape" where shape == nil: shape = try integers(key: name)
            case "data_offsets" where offsets == nil: offsets = try integers(key: name)
            default: throw corrupt("the field \"\(key)\" is unknown or occurs twice", key: name)
            }
        } while skips(",")
        try expect("}")
        guard let dtype, let shape, let offsets, offsets.count == 2 else {
            throw corrupt("needs dtype, shape and two data_offsets", key: name)
        }
        try check(shape: shape, dtype: dtype, begin: offsets[0], end: offsets[1], key: name)
        return SafetensorsEntry(name: name, dtype: dtype, shape: shape, begin: offsets[0], end: offsets[1])
    }

    private func check(shape: [Int], dtype: DType, begin: Int, end: Int, key: String) throws(Failure) {
        guard shape.count <= SafetensorsHeader.largestRank else {
            throw corrupt("shape \(shape) has more than \(SafetensorsHeader.largestRank) axes", key: key)
        }
        var byteCount = dtype.byteCount
        for extent in shape {
            let (product, overflow) = byteCount.multipliedReportingOverflow(by: extent)
            guard !overflow else { throw corrupt("shape \(shape) overflows", key: key) }
            byteCount = product
        }
        guard begin <= end, end - begin == byteCount else {
            let place = "data_offsets are [\(begin), \(end)]"
            throw corrupt("shape \(shape) of \(dtype.safetensorsName) takes \(byteCount) bytes, \(place)", key: key)
        }
    }

    private mutating func integers(key: String) throws(Failure) -> [Int] {
        var values: [Int] = []
        try expect("[")
        if skips("]") { return values }
        repeat {
            guard values.count < 64 else { throw corrupt("a list has more than 64 numbers", key: key) }
            values.append(try integer(key: key))
        } while skips(",")
        try expect("]")
        return values
    }

    private mutating func integer(key: String) throws(Failure) -> Int {
        skipSpace()
        let start = position
        var value = 0
        while position < bytes.count, case let digit = bytes[position] &- 0x30, digit < 10 {
            let (tens, overflow) = value.multipliedReportingOverflow(by: 10)
            let (sum, carry) = tens.addingReportingOverflow(Int(digit))
            guard !overflow, !carry else {
                throw corrupt("a number at byte \(start) of the header overflows", key: key)
            }
            value = sum
            position += 1
        }
        guard position > start else { throw corrupt("no whole number at byte \(start) of the header", key: key) }
        return value
    }

    // MARK: Strings

    mutating func strings(key: String) throws(Failure) -> [String: String] {
        var values: [String: String] = [:]
        try expect("{")
        if skips("}") { return values }
        repeat {
            let name = try string()
            try expect(":")
            let value = try string()
            guard values.updateValue(value, forKey: name) == nil else {
                throw corrupt("\"\(name)\" occurs twice", key: key)
            }
        } while skips(",")
        try expect("}")
        return values
    }

    mutating func string() throws(Failure) -> String {
        try expect("\"")
        let start = position
        var decoded: [UInt8] = []
        while position < bytes.count {
            let byte = bytes[position]
            position += 1
            switch byte {
            case UInt8(ascii: "\""): return try text(decoded, at: start)
            case UInt8(ascii: "\\"): decoded += try escape()
            case 0..<0x20: throw corrupt("a control character at byte \(position - 1) of the header")
            default: decoded.append(byte)
            }
        }
        throw corrupt("a string at byte \(start) of the header has no end")
    }

    private func text(_ decoded: [UInt8], at start: Int) throws(Failure) -> String {
        guard let text = String(validating: decoded, as: UTF8.self) else {
            throw corrupt("a string at byte \(start) of the header is not UTF-8")
        }
        return text
    }

    private mutating func escape() throws(Failure) -> [UInt8] {
        guard position < bytes.count else { throw corrupt("the header ends in an escape") }
        let letter = bytes[position]
        position += 1
        switch letter {
        case UInt8(ascii: "\""), UInt8(ascii: "\\"), UInt8(ascii: "/"): return [letter]
        case UInt8(ascii: "b"): return [0x08]
        case UInt8(ascii: "f"): return [0x0c]
        case UInt8(ascii: "n"): return [0x0a]
        case UInt8(ascii: "r"): return [0x0d]
        case UInt8(ascii: "t"): return [0x09]
        case UInt8(ascii: "u"): return Array(String(try unicodeEscape()).utf8)
        default: throw corrupt("an unknown escape at byte \(position - 1) of the header")
        }
    }

    private mutating func unicodeEscape() throws(Failure) -> Character {
        var code = try hexadecimal()
        if (0xd800..<0xdc00).contains(code), position + 1 < bytes.count, bytes[position] == UInt8(ascii: "\\"),
            bytes[position + 1] == UInt8(ascii: "u")
        {
            position += 2
            let low = try hexadecimal()
            guard (0xdc00..<0xe000).contains(low) else { throw corrupt("half a surrogate pair in the header") }
            code = 0x10000 + (code - 0xd800) << 10 + (low - 0xdc00)
        }
        guard let scalar = Unicode.Scalar(code) else { throw corrupt("half a surrogate pair in the header") }
        return Character(scalar)
    }

    private mutating func hexadecimal() throws(Failure) -> UInt32 {
        guard position + 4 <= bytes.count,
            let digits = String(validating: bytes[position..<(position + 4)], as: UTF8.self),
            let code = UInt32(digits, radix: 16), digits.allSatisfy(\.isHexDigit)
        else { throw corrupt("a bad \\u escape at byte \(position) of the header") }
        position += 4
        return code
    }
}
