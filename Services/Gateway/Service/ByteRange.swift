/// A `Range` request header for one resource (RFC 9110 §14).
enum ByteRange: Sendable, Hashable {
    /// Send everything: no header, another unit, a malformed header or several ranges, which a server may ignore.
    case whole
    /// Send these bytes with 206.
    case part(Range<Int>)
    /// No byte of it exists: 416.
    case unsatisfiable

    init(header: String?, size: Int) {
        guard let header, header.hasPrefix("bytes=") else {
            self = .whole
            return
        }
        let parts = header.dropFirst(6).split(separator: "-", omittingEmptySubsequences: false)
        guard parts.count == 2, parts.allSatisfy({ $0.allSatisfy { $0.isASCII && $0.isNumber } }) else {
            self = .whole
            return
        }
        self = Self.resolve(first: parts[0], last: parts[1], size: size)
    }

    private static func resolve(first: Substring, last: Substring, size: Int) -> ByteRange {
        // Positions beyond Int are beyond every file.
        let start = first.isEmpty ? nil : (Int(first) ?? .max)
        let end = last.isEmpty ? nil : (Int(last) ?? .max)
        switch (start, end) {
        case (nil, nil): return .whole
        case (nil, let count?): return count == 0 || size == 0 ? .unsatisfiable : .part(max(0, size - count)..<size)
        case (let start?, nil): return start < size ? .part(start..<size) : .unsatisfiable
        case (let start?, let end?):
            guard start <= end else { return .whole }
            return start < size ? .part(start..<min(size, end == .max ? size : end + 1)) : .unsatisfiable
        }
    }
}
