import Checkpoint
import Failure
import Foundation
import Tensor
import TestSupport
import Testing

@Suite("Files of torch.save")
struct TorchFileTests {
    private static let values: [Float] = [0, 1, 2, 3, 4, 5]
    private static let storage = values.flatMap { TorchBytes.little($0.bitPattern) }

    private func open(_ bytes: [UInt8]) throws -> TorchFile {
        try TorchFile(bytes: Tensor(bytes: bytes), label: "x.pt")
    }

    private func failure(_ bytes: [UInt8]) throws -> Failure {
        try #require(throws: Failure.self) {
            let file = try open(bytes)
            var seen: Set<String> = []
            for name in file.names {
                try file.verify(name, seen: &seen)
                _ = try file.tensor(name)
            }
        }
    }

    private func pickleFailure(_ body: [UInt8]) throws -> Failure {
        try failure(TorchBytes.file(TorchBytes.pickle(body)))
    }

    private func whole(shape: [Int] = [2, 3], strides: [Int] = [3, 1], offset: Int = 0) -> [UInt8] {
        TorchBytes.pickle(
            TorchBytes.dictionary(TorchBytes.tensor(count: 6, offset: offset, shape: shape, strides: strides)))
    }

    @Test("a tensor is read at its offset and strides")
    func strides() throws {
        func read(_ shape: [Int], _ strides: [Int], _ offset: Int) throws -> [Float] {
            let bytes = TorchBytes.file(whole(shape: shape, strides: strides, offset: offset), storage: Self.storage)
            let tensor = try open(bytes).tensor("w")
            #expect(tensor.shape == shape)
            return tensor.floats()
        }
        #expect(try read([2, 3], [3, 1], 0) == [0, 1, 2, 3, 4, 5])
        #expect(try read([3, 2], [1, 3], 0) == [0, 3, 1, 4, 2, 5])
        #expect(try read([2], [2], 1) == [1, 3])
        #expect(try read([], [], 4) == [4])
        #expect(try read([0, 3], [3, 1], 0) == [])
        #expect(try read([2, 2], [0, 1], 2) == [2, 3, 2, 3])
    }

    @Test("ZIP64 directories and comments are read")
    func containers() throws {
        for bytes in [
            TorchBytes.file(whole(), storage: Self.storage, damage: .zip64),
            TorchBytes.file(whole(), storage: Self.storage, comment: 700),
        ] {
            #expect(try open(bytes).tensor("w").floats() == Self.values)
        }
    }

    @Test("a damaged ZIP file is told", arguments: TorchBytes.Damage.allCases.filter { $0 != .none && $0 != .zip64 })
    func damage(_ damage: TorchBytes.Damage) throws {
        let code = try failure(TorchBytes.file(whole(), storage: Self.storage, damage: damage)).code
        let isChecksum = damage == .wrongChecksum || damage == .wrongDataChecksum
        #expect(code == (isChecksum ? "torch_file_checksum" : "torch_file_invalid"))
    }

    @Test("a file cut off anywhere is refused")
    func truncated() throws {
        let bytes = TorchBytes.file(whole(), storage: Self.storage)
        for count in 0..<bytes.count { #expect(try failure(Array(bytes[..<count])).code == "torch_file_invalid") }
    }

    @Test("random changes never crash the reader")
    func changed() throws {
        let original = TorchBytes.file(whole(), storage: Self.storage, damage: .zip64)
        var random = SeededGenerator(seed: 3)
        for _ in 0..<3000 {
            var bytes = original
            for _ in 0..<Int.random(in: 1...4, using: &random) {
                bytes[Int.random(in: 0..<bytes.count, using: &random)] = UInt8.random(in: 0...255, using: &random)
            }
            if let file = try? open(bytes) { for name in file.names { _ = try? file.tensor(name) } }
        }
    }

    struct Attack: Sendable, CustomTestStringConvertible {
        let name: String
        let body: [UInt8]
        var testDescription: String { name }
    }

    static let attacks: [Attack] = {
        let call = TorchBytes.tuple([TorchBytes.text("touch /tmp/x")]) + Array("R".utf8)
        let system = TorchBytes.name("os", "system") + call
        return [
            Attack(name: "os.system", body: system),
            Attack(name: "posix.system", body: TorchBytes.name("posix", "system") + call),
            Attack(name: "builtins.eval", body: TorchBytes.name("builtins", "eval") + call),
            Attack(name: "__builtin__.getattr", body: TorchBytes.name("__builtin__", "getattr") + call),
            Attack(name: "torch.load", body: TorchBytes.name("torch", "load") + call),
            Attack(
                name: "torch.storage._load_from_bytes",
                body: TorchBytes.name("torch.storage", "_load_from_bytes") + call),
            Attack(
                name: "nested in a state dict",
                body: TorchBytes.dictionary(Array("}".utf8) + TorchBytes.text("a") + system + Array("s".utf8))),
            Attack(
                name: "nested in a tensor's hooks",
                body: TorchBytes.dictionary(
                    TorchBytes.name("torch._utils", "_rebuild_parameter") + TorchBytes.tuple([system]) + Array("R".utf8)
                )),
        ]
    }()

    @Test("a name that no checkpoint needs is refused, wherever it stands", arguments: attacks)
    func globals(_ attack: Attack) throws {
        let failure = try pickleFailure(attack.body)
        #expect(failure.code == "pickle_global_refused")
        #expect(failure.remedy?.contains("Nothing was executed") == true)
    }

    @Test("opcodes that could call what is not named, and other protocols, are refused")
    func opcodes() throws {
        for opcode: UInt8 in [
            UInt8(ascii: "i"), UInt8(ascii: "o"), 0x82, 0x83, 0x84, 0x92, 0x93, 0x95, 0x97, UInt8(ascii: "P"),
        ] {
            #expect(try pickleFailure([opcode, 0, 0, 0, 0, 0]).code == "pickle_opcode_refused", "\(opcode)")
        }
        #expect(try failure(TorchBytes.file([0x80, 4] + Array("N.".utf8))).code == "pickle_opcode_refused")
    }

    @Test(
        "malformed pickles are refused",
        arguments: [
            "", "R", "t", "s", "}s", "N)R", "h\u{5}", "(", "0a", "]a", "X\u{ff}\u{ff}\u{ff}\u{7f}", "Q", "NQ", "b",
            "Nb", "ctorch\n",
        ])
    func malformed(_ body: String) throws {
        let code = try failure(TorchBytes.file([0x80, 2] + body.unicodeScalars.map { UInt8($0.value) })).code
        #expect(code == "pickle_invalid" || code == "pickle_opcode_refused", "\(code)")
    }

    @Test("depth, circles and huge memory indexes cost nothing")
    func bombs() throws {
        // A million tuples, each in the next; a list that contains itself; memo entry 2^32 - 1.
        let deep = Array(")".utf8) + [UInt8](repeating: 0x85, count: 1_000_000)
        #expect(try pickleFailure(deep).code == "state_dict_missing")
        let circle = Array("]q\u{1}h\u{1}a".utf8)
        #expect(try pickleFailure(circle).code == "state_dict_missing")
        let memo = Array("}r".utf8) + [255, 255, 255, 255]
        #expect(try pickleFailure(memo).code == "state_dict_missing")
        let circularWrapper = Array("}q\u{1}".utf8) + TorchBytes.text("module") + Array("h\u{1}s".utf8)
        #expect(try pickleFailure(circularWrapper).code == "state_dict_missing")
        let long = [UInt8](repeating: UInt8(ascii: "N"), count: 17 << 20)
        #expect(try pickleFailure(long).code == "pickle_too_large")
    }

    @Test("tensors beyond their storage, and storages that are not there, are refused")
    func tensors() throws {
        func code(_ tensor: [UInt8]) throws -> String {
            try failure(TorchBytes.file(TorchBytes.pickle(TorchBytes.dictionary(tensor)), storage: Self.storage)).code
        }
        for (shape, strides, offset) in [
            ([7], [1], 0), ([6], [1], 1), ([2, 3], [4, 1], 0), ([6], [-1], 5), ([-1], [1], 0), ([3], [1, 1], 0),
            ([1 << 30, 1 << 30, 1 << 30], [0, 0, 0], 0), ([2], [1 << 30], 0), ([1], [1], -1),
        ] {
            let tensor = TorchBytes.tensor(count: 6, offset: offset, shape: shape, strides: strides)
            #expect(try code(tensor) == "torch_tensor_invalid", "\(shape) \(strides)")
        }
        #expect(try code(TorchBytes.tensor(count: 7, shape: [7], strides: [1])) == "torch_tensor_invalid")
        #expect(
            try code(TorchBytes.tensor("DoubleStorage", count: 3, shape: [3], strides: [1]))
                == "torch_dtype_unsupported")
    }

    @Test("other kinds of files are told apart")
    func otherKinds() throws {
        #expect(try failure([0x80, 2, 0x8a, 10]).code == "torch_file_legacy")
        let pointer = try failure(Array("version https://git-lfs.github.com/spec/v1\n".utf8))
        #expect(pointer.remedy?.contains("git lfs pull") == true)
        #expect(try failure(Array("hello".utf8)).code == "torch_file_invalid")
    }
}
