import Failure
import Tensor

/// Whole files, and header texts around which a file is made. Every byte of every tensor of an accepted file is read,
/// and the file is written anew and read back.
struct SafetensorsSubject: FuzzSubject {
    func run(_ input: [UInt8]) async throws {
        var reader = InputReader(input)
        let isWhole = reader.byte() & 1 == 0
        let bytes = isWhole ? reader.rest() : Self.file(&reader)
        let file: SafetensorsFile
        do throws(Failure) {
            file = try SafetensorsFile(bytes: Tensor(bytes: bytes), label: "input")
        } catch {
            try Finding.require(error.code == "corrupt_safetensors", "an unexpected refusal: \(error)")
            return
        }
        let tensors = try file.names.map { ($0, try file.tensor($0)) }
        let written = SafetensorsWriter.encode(tensors, metadata: file.metadata)
        let again = try SafetensorsFile(bytes: written, label: "again")
        try Finding.require(Set(again.names) == Set(file.names), "names \(file.names) become \(again.names)")
        try Finding.require(again.metadata == file.metadata, "other metadata: \(again.metadata)")
        for (name, tensor) in tensors {
            let other = try again.tensor(name)
            let isSame =
                other.shape == tensor.shape && other.dtype == tensor.dtype
                && tensor.withUnsafeBytes { mine in other.withUnsafeBytes { mine.elementsEqual($0) } }
            try Finding.require(isSame, "\(name) is another tensor after writing and reading")
        }
    }

    private static func file(_ reader: inout InputReader) -> [UInt8] {
        let dataCount = Int(reader.integer16() % 4096)
        let header = reader.rest()
        var bytes: [UInt8] = []
        withUnsafeBytes(of: UInt64(header.count).littleEndian) { bytes += Array($0) }
        return bytes + header + (0..<dataCount).map { UInt8(truncatingIfNeeded: $0) }
    }
}
