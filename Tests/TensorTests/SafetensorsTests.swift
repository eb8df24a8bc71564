import Failure
import Glibc
import Tensor
import TestSupport
import Testing

@Suite("Safetensors")
struct SafetensorsTests {
    /// A path in the temporary folder, removed after `body`.
    func withFile(_ body: (String) throws -> Void) throws {
        let path = "/tmp/safetensors-\(getpid())-\(UInt64.random(in: 0...(.max)))"
        defer { unlink(path) }
        try body(path)
    }

    static let tensors: [(String, Tensor)] = [
        ("odd.bytes", Tensor(bytes: [1, 2, 3])),
        ("weight", randomTensor([2, 3], seed: 1)),
        ("half", randomTensor([5], seed: 2, dtype: .float16)),
        ("brain", randomTensor([2, 1, 2], seed: 3, dtype: .bfloat16)),
        ("ids", Tensor(ids: [1, -2], shape: [2])),
        ("scalar", Tensor([7], shape: [])),
        ("empty", Tensor(zeros: [0, 4])),
    ]
    static let metadata = ["format": "pt", "quote\"\\": "line\nend \u{1} é 𝄞"]

    @Test("what is written is read back, from a file and from memory, aligned or not")
    func roundTrip() throws {
        try withFile { path in
            try SafetensorsWriter.write(tensors: Self.tensors, metadata: Self.metadata, to: path)
            let inMemory = SafetensorsWriter.encode(Self.tensors, metadata: Self.metadata)
            for file in [try SafetensorsFile(path: path), try SafetensorsFile(bytes: inMemory)] {
                #expect(Set(file.names) == Set(Self.tensors.map(\.0)) && file.names.count == Self.tensors.count)
                #expect(file.metadata == Self.metadata)
                for (name, expected) in Self.tensors {
                    #expect(file.contains(name) && file.shape(name) == expected.shape)
                    #expect(file.dtype(name) == expected.dtype)
                    #expect(identical(try file.tensor(name), expected), "\(name)")
                }
            }
        }
    }

    @Test("an aligned tensor is a view of the mapped bytes, and writing to it leaves the file alone")
    func views() throws {
        try withFile { path in
            try SafetensorsWriter.write(tensors: ["a": Tensor([1, 2], shape: [2])], to: path)
            let file = try SafetensorsFile(path: path)
            let first = try file.tensor("a")
            var second = try file.tensor("a")
            #expect(first.readAddress == second.readAddress)
            second.withUnsafeMutableBytes { $0.storeBytes(of: Float(5), as: Float.self) }
            #expect(try file.tensor("a").floats() == [1, 2])
            #expect(second.floats() == [5, 2])
        }
    }

    @Test("a dictionary is written in the order of its names")
    func dictionaryOrder() throws {
        let file = try SafetensorsFile(
            bytes: SafetensorsWriter.encode(["b": Tensor([1], shape: [1]), "a": Tensor([2], shape: [1])]))
        #expect(file.names == ["a", "b"])
    }

    @Test("a missing name and a missing file are named in the failure")
    func missing() throws {
        let file = try SafetensorsFile(bytes: SafetensorsWriter.encode(Self.tensors))
        #expect(throws: Failure.self) { _ = try file.tensor("nobody") }
        do {
            _ = try file.tensor("nobody")
        } catch { #expect(error.code == "missing_tensor" && error.field == "nobody") }
        do {
            _ = try SafetensorsFile(path: "/nonexistent/file")
            Issue.record("a missing file was opened")
        } catch { #expect(error.code == "unreadable_file" && error.message.contains("/nonexistent/file")) }
        do {
            _ = try SafetensorsFile(path: "/tmp")
            Issue.record("a folder was opened")
        } catch { #expect(error.code == "unreadable_file") }
    }

    @Test("a file that cannot be written leaves nothing behind")
    func unwritable() {
        do {
            try SafetensorsWriter.write(tensors: Self.tensors, to: "/nonexistent/folder/file")
            Issue.record("the file was written")
        } catch { #expect(error.code == "unwritable_file") }
    }

    @Test("the header digest covers the length and the header and nothing else")
    func headerBytes() throws {
        let bytes = SafetensorsWriter.encode([("a", Tensor([1], shape: [1]))])
        let header = try SafetensorsFile(bytes: bytes).headerDigestBytes
        #expect(header.count == bytes.byteCount - 4)
        #expect(header.last == UInt8(ascii: " ") || header.last == UInt8(ascii: "}"))
    }

    @Test("a header of thousands of entries opens in a fraction of a second")
    func manyEntries() throws {
        let one = Tensor([1], shape: [1])
        let tensors = (0..<5000).map { ("layers.\($0).attention.to_q.weight", one) }
        let bytes = SafetensorsWriter.encode(tensors)
        let clock = ContinuousClock()
        let elapsed = try clock.measure { _ = try SafetensorsFile(bytes: bytes) }
        #expect(elapsed < .seconds(1))
    }
}
