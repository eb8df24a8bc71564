import Failure
import Tensor
import TestSupport
import Testing

@Suite("Damaged safetensors")
struct DamagedSafetensorsTests {
    struct Case: Sendable, CustomTestStringConvertible {
        var name: String
        var header: String
        var data = 8
        /// Words that the message must hold.
        var says: [String]
        var testDescription: String { name }
    }

    static func entry(_ dtype: String = "F32", _ shape: String = "[2]", _ offsets: String = "[0,8]") -> String {
        "{\"dtype\":\"\(dtype)\",\"shape\":\(shape),\"data_offsets\":\(offsets)}"
    }

    static let cases: [Case] = [
        Case(name: "no object", header: "[]", says: ["{"]),
        Case(name: "empty header", header: "", says: ["{"]),
        Case(name: "cut short", header: "{\"a\":\(entry())", says: ["}"]),
        Case(name: "text after the end", header: "{\"a\":\(entry())} x", says: ["after its end"]),
        Case(name: "unknown dtype", header: "{\"a\":\(entry("F64", "[1]"))}", says: ["\"a\"", "F64"]),
        Case(name: "a field too many", header: "{\"a\":{\"dtype\":\"F32\",\"size\":1}}", says: ["\"a\"", "size"]),
        Case(name: "a field twice", header: "{\"a\":{\"dtype\":\"F32\",\"dtype\":\"F32\"}}", says: ["dtype"]),
        Case(name: "no offsets", header: "{\"a\":{\"dtype\":\"F32\",\"shape\":[2]}}", says: ["data_offsets"]),
        Case(name: "one offset", header: "{\"a\":\(entry("F32", "[2]", "[8]"))}", says: ["two data_offsets"]),
        Case(name: "size unlike offsets", header: "{\"a\":\(entry("F32", "[3]"))}", says: ["\"a\"", "12 bytes"]),
        Case(name: "backward offsets", header: "{\"a\":\(entry("F32", "[2]", "[8,0]"))}", says: ["[8, 0]"]),
        Case(name: "beyond the end", header: "{\"a\":\(entry("F32", "[4]", "[0,16]"))}", says: ["beyond", "8 bytes"]),
        Case(name: "negative extent", header: "{\"a\":\(entry("F32", "[-2]"))}", says: ["whole number"]),
        Case(name: "fraction", header: "{\"a\":\(entry("F32", "[2.0]"))}", says: ["]"]),
        Case(
            name: "shape overflow", header: "{\"a\":\(entry("F32", "[4611686018427387904,4]"))}",
            says: ["\"a\"", "overflows"]),
        Case(name: "number overflow", header: "{\"a\":\(entry("F32", "[99999999999999999999]"))}", says: ["overflows"]),
        Case(
            name: "nine axes", header: "{\"a\":\(entry("F32", "[1,1,1,1,1,1,1,1,2]"))}", says: ["more than 8 axes"]),
        Case(
            name: "a list without end",
            header: "{\"a\":\(entry("F32", "[" + [String](repeating: "1", count: 100).joined(separator: ",") + "]"))}",
            says: ["more than 64"]),
        Case(
            name: "overlap", header: "{\"a\":\(entry()),\"b\":\(entry("F32", "[1]", "[4,8]"))}",
            says: ["\"b\"", "overlap"]),
        Case(
            name: "hole", header: "{\"a\":\(entry("F32", "[1]", "[0,4]")),\"b\":\(entry("F32", "[1]", "[8,12]"))}",
            data: 12, says: ["\"b\"", "hole"]),
        Case(name: "bytes of nobody", header: "{\"a\":\(entry())}", data: 9, says: ["byte 8 of 9"]),
        Case(name: "a name twice", header: "{\"a\":\(entry()),\"a\":\(entry())}", says: ["\"a\"", "twice"]),
        Case(name: "metadata that is not text", header: "{\"__metadata__\":{\"a\":1}}", data: 0, says: ["\""]),
        Case(
            name: "metadata twice", header: "{\"__metadata__\":{\"a\":\"1\",\"a\":\"2\"}}", data: 0,
            says: ["\"a\" occurs twice"]),
        Case(name: "a bad escape", header: "{\"\\q\":\(entry())}", says: ["escape"]),
        Case(name: "half a surrogate", header: "{\"\\ud800\":\(entry())}", says: ["surrogate"]),
        Case(name: "a control character", header: "{\"a\n\":\(entry())}", says: ["control"]),
        Case(name: "a string without end", header: "{\"a", says: ["no end"]),
    ]

    func file(header: String, data: Int, declared: UInt64? = nil) -> Tensor {
        let text = Array(header.utf8)
        let length = withUnsafeBytes(of: (declared ?? UInt64(text.count)).littleEndian, Array.init)
        return Tensor(bytes: length + text + [UInt8](repeating: 0, count: data))
    }

    @Test("a damaged header is refused, with the key and what is wrong", arguments: cases)
    func damagedHeader(damage: Case) {
        do {
            _ = try SafetensorsFile(bytes: file(header: damage.header, data: damage.data), label: "some.safetensors")
            Issue.record("the file was accepted")
        } catch {
            #expect(error.code == "corrupt_safetensors")
            #expect(error.message.hasPrefix("some.safetensors"))
            for word in damage.says { #expect(error.message.contains(word), "\(error.message)") }
        }
    }

    @Test("the same header undamaged is accepted")
    func soundHeader() throws {
        let read = try SafetensorsFile(bytes: file(header: " {\"\\u0061\" : \(Self.entry()) }  ", data: 8))
        #expect(read.names == ["a"])
        #expect(try read.tensor("a").floats() == [0, 0])
    }

    @Test("a length field that cannot be true is refused", arguments: [9, 1 << 40, UInt64.max])
    func absurdLength(declared: UInt64) {
        do {
            _ = try SafetensorsFile(bytes: file(header: "{}", data: 0, declared: declared))
            Issue.record("the file was accepted")
        } catch { #expect(error.code == "corrupt_safetensors" && error.message.contains("\(declared)")) }
    }

    @Test("a file cut anywhere is refused")
    func truncated() throws {
        let whole = SafetensorsWriter.encode(SafetensorsTests.tensors, metadata: SafetensorsTests.metadata)
        for count in 0..<whole.byteCount {
            do {
                _ = try SafetensorsFile(bytes: whole.rows(0..<count))
                Issue.record("a file of \(count) of \(whole.byteCount) bytes was accepted")
            } catch { #expect(error.code == "corrupt_safetensors") }
        }
    }

    @Test("any changed header byte gives a sound file or a failure, never a crash")
    func changedBytes() throws {
        let whole = SafetensorsWriter.encode(SafetensorsTests.tensors, metadata: SafetensorsTests.metadata)
        let headerCount = try SafetensorsFile(bytes: whole).headerDigestBytes.count
        var generator = SeededGenerator(seed: 5)
        for position in 0..<headerCount {
            var changed = whole
            changed.withUnsafeMutableBytes { $0[position] = UInt8.random(in: 0...255, using: &generator) }
            guard let file = try? SafetensorsFile(bytes: changed) else { continue }
            for name in file.names { #expect(try file.tensor(name).byteCount >= 0) }
        }
    }
}
