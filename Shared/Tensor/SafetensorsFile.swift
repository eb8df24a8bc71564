package import Failure

/// A safetensors file, mapped or in memory, whose header has been checked completely.
///
/// Tensors are views of the file's bytes where those are aligned to the element size, and copies otherwise.
/// Thread-safe: nothing changes after `init`.
package final class SafetensorsFile: Sendable {
    /// What messages call the file: its path, or the name given for bytes in memory.
    package let label: String
    /// Tensor names in the order of their bytes in the file.
    package let names: [String]
    /// The `__metadata__` object.
    package let metadata: [String: String]
    private let bytes: Tensor
    private let dataStart: Int
    private let entries: [String: SafetensorsEntry]

    /// Maps and checks the file. Failures: `unreadable_file`, `corrupt_safetensors`.
    package convenience init(path: String) throws(Failure) {
        let storage = try MappedFile.storage(path: path)
        try self.init(bytes: Tensor(storage: storage, shape: [storage.byteCount], dtype: .uint8), label: path)
    }

    /// Checks a file that lies in memory as a uint8 tensor; its storage is kept. Failure: `corrupt_safetensors`.
    package init(bytes: Tensor, label: String = "safetensors in memory") throws(Failure) {
        precondition(bytes.dtype == .uint8, "safetensors bytes are uint8, not \(bytes.dtype)")
        let count = bytes.byteCount
        guard count >= 8 else {
            throw SafetensorsHeader.corrupt("has \(count) bytes, fewer than the 8 of the length", file: label, key: nil)
        }
        let declared = bytes.withUnsafeBytes { UInt64(littleEndian: $0.loadUnaligned(as: UInt64.self)) }
        guard declared <= UInt64(SafetensorsHeader.largestHeader) else {
            throw SafetensorsHeader.corrupt("the header is said to have \(declared) bytes", file: label, key: nil)
        }
        let headerCount = Int(declared)
        guard headerCount <= count - 8 else {
            throw SafetensorsHeader.corrupt(
                "the header is said to have \(headerCount) bytes, the file has \(count)", file: label, key: nil)
        }
        let header = try Self.header(of: bytes, headerCount: headerCount, label: label)
        self.label = label
        self.bytes = bytes
        dataStart = 8 + headerCount
        metadata = header.metadata
        names = header.entries.sorted { ($0.begin, $0.end, $0.name) < ($1.begin, $1.end, $1.name) }.map(\.name)
        entries = Dictionary(uniqueKeysWithValues: header.entries.map { ($0.name, $0) })
    }

    private static func header(of bytes: Tensor, headerCount: Int, label: String) throws(Failure) -> SafetensorsHeader {
        let address = bytes.readAddress
        defer { withExtendedLifetime(bytes) {} }
        return try SafetensorsHeader(
            json: UnsafeRawBufferPointer(start: address + 8, count: headerCount),
            dataByteCount: bytes.byteCount - 8 - headerCount, file: label)
    }

    /// The length field and the header text: what a digest of the file's layout covers.
    package var headerDigestBytes: [UInt8] { bytes.withUnsafeBytes { Array($0[..<dataStart]) } }

    package func contains(_ name: String) -> Bool { entries[name] != nil }

    /// Shape of a tensor without touching its bytes, or nil when the file has no such name.
    package func shape(_ name: String) -> [Int]? { entries[name]?.shape }

    /// Element type of a tensor, or nil when the file has no such name.
    package func dtype(_ name: String) -> DType? { entries[name]?.dtype }

    /// The tensor of that name. Failure: `missing_tensor`.
    package func tensor(_ name: String) throws(Failure) -> Tensor {
        guard let entry = entries[name] else {
            throw Failure(
                "missing_tensor", "\(label) has no tensor \"\(name)\"", field: name,
                remedy: "Check that the file belongs to this model.")
        }
        let offset = bytes.byteOffset + dataStart + entry.begin
        let view = Tensor(storage: bytes.storage, byteOffset: offset, shape: entry.shape, dtype: entry.dtype)
        let isAligned = UInt(bitPattern: view.readAddress) % UInt(entry.dtype.byteCount) == 0
        return isAligned ? view : view.copied()
    }
}
