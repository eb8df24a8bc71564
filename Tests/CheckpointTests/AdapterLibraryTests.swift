import Checkpoint
import Failure
import Foundation
import Tensor
import Testing

@Suite("A folder of adapters")
struct AdapterLibraryTests {
    private static let layer = "transformer_blocks.0.attn1.to_q"
    private static let shapes = ["\(layer).weight": [4, 3]]

    private func tensors(_ value: Float = 1) -> [String: Tensor] {
        [
            "transformer.\(Self.layer).lora_A.weight": Tensor([value, 2, 3, 4, 5, 6], shape: [2, 3]),
            "transformer.\(Self.layer).lora_B.weight": Tensor([1, 2, 3, 4, 5, 6, 7, 8], shape: [4, 2]),
        ]
    }

    private func write(_ tensors: [String: Tensor], to path: String) throws {
        let folder = URL(filePath: path).deletingLastPathComponent().path
        try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
        try SafetensorsWriter.write(tensors: tensors, to: path)
    }

    private func code(_ library: AdapterLibrary, _ name: String) -> String? {
        do throws(Failure) {
            _ = try library.adapter(name)
            return nil
        } catch {
            return error.code
        }
    }

    @Test("a name is a file, with or without its ending, below the folder, or a folder with the usual file")
    func names() throws {
        let scratch = try ScratchFolder()
        try write(tensors(), to: "\(scratch.path)/style.safetensors")
        try write(tensors(2), to: "\(scratch.path)/people/anna.safetensors")
        try write(tensors(3), to: "\(scratch.path)/trained/pytorch_lora_weights.safetensors")
        let library = try AdapterLibrary(path: scratch.path, shapes: Self.shapes)
        let names = ["style", "style.safetensors", "people/anna", "people/anna.safetensors", "trained"]
        let digests = try names.map { try library.adapter($0).entry.digest }
        #expect(digests[0] == digests[1] && digests[2] == digests[3] && Set(digests).count == 3)
        #expect(try library.adapter("style").entry.warnings.count == 1)
        let listed = library.entries()
        #expect(listed.usable.map(\.name) == ["people/anna.safetensors", "style.safetensors", "trained"])
        #expect(listed.failures.isEmpty)
    }

    @Test(
        "no name leaves the folder",
        arguments: [
            "", "/etc/passwd", "../secret", "people/../../secret", "./style", "people//style", ".hidden", "people/.",
            "a\u{0}b", "a\nb", String(repeating: "x", count: 201),
        ])
    func escapes(name: String) throws {
        let scratch = try ScratchFolder()
        try write(tensors(), to: "\(scratch.path)/secret.safetensors")
        try write(tensors(), to: "\(scratch.path)/inside/style.safetensors")
        let library = try AdapterLibrary(path: "\(scratch.path)/inside", shapes: Self.shapes)
        #expect(code(library, name) == "adapter_name_invalid")
    }

    @Test("neither does a link: to a file, to a folder, or inside a folder")
    func links() throws {
        let scratch = try ScratchFolder()
        let inside = "\(scratch.path)/inside", manager = FileManager.default
        try write(tensors(), to: "\(scratch.path)/outside/adapter_model.safetensors")
        try write(tensors(), to: "\(inside)/style.safetensors")
        try write(tensors(), to: "\(inside)/peft/adapter_model.safetensors")
        try manager.createSymbolicLink(atPath: "\(inside)/folder", withDestinationPath: "../outside")
        try manager.createSymbolicLink(
            atPath: "\(inside)/file.safetensors", withDestinationPath: "../outside/adapter_model.safetensors")
        try manager.createDirectory(atPath: "\(inside)/half", withIntermediateDirectories: true)
        try manager.createSymbolicLink(
            atPath: "\(inside)/half/adapter_model.safetensors",
            withDestinationPath: "../../outside/adapter_model.safetensors")
        try "{}".write(toFile: "\(scratch.path)/secret.json", atomically: true, encoding: .utf8)
        try manager.createSymbolicLink(
            atPath: "\(inside)/peft/adapter_config.json", withDestinationPath: "../../secret.json")
        try manager.createSymbolicLink(
            atPath: "\(inside)/other.safetensors", withDestinationPath: "style.safetensors")
        let library = try AdapterLibrary(path: inside, shapes: Self.shapes)
        for name in ["folder", "folder/adapter_model", "file", "half", "peft", "peft/adapter_model"] {
            #expect(code(library, name) == "adapter_outside_folder", "\(name)")
        }
        #expect(code(library, "style") == nil)
        #expect(code(library, "other") == nil, "a link that stays inside is fine")
    }

    @Test("what is absent, of another model or not finite is refused by name, and the list says why")
    func unusable() throws {
        let scratch = try ScratchFolder()
        try write(tensors(.nan), to: "\(scratch.path)/nan.safetensors")
        var wide = tensors()
        wide["transformer.\(Self.layer).lora_A.weight"] = Tensor([1, 2, 3, 4], shape: [2, 2])
        try write(wide, to: "\(scratch.path)/wide.safetensors")
        try write(["transformer.nothing.lora_A.weight": Tensor([1], shape: [1])], to: "\(scratch.path)/odd.safetensors")
        try Data("not safetensors".utf8).write(to: URL(filePath: "\(scratch.path)/broken.safetensors"))
        let library = try AdapterLibrary(path: scratch.path, shapes: Self.shapes)
        #expect(code(library, "absent") == "adapter_not_found")
        let listed = library.entries()
        #expect(listed.usable.isEmpty)
        #expect(
            listed.failures.map { "\($0.name) \($0.failure.code)" } == [
                "broken.safetensors corrupt_safetensors", "nan.safetensors adapter_not_finite",
                "odd.safetensors adapter_key_unknown", "wide.safetensors adapter_shape_mismatch",
            ])
        #expect(
            !listed.failures.contains { $0.failure.message.contains(scratch.path) }, "no path of the server is told")
        let missing = #expect(throws: Failure.self) {
            try AdapterLibrary(path: "\(scratch.path)/none", shapes: Self.shapes)
        }
        #expect(missing?.code == "adapters_folder_missing")
    }

    @Test("a file that was replaced is another adapter, also where its name is remembered")
    func replaced() throws {
        let scratch = try ScratchFolder()
        let path = "\(scratch.path)/style.safetensors"
        try write(tensors(), to: path)
        let library = try AdapterLibrary(path: scratch.path, shapes: Self.shapes)
        let digest = try library.adapter("style").entry.digest
        #expect(try library.weights("style", digest: digest).rank == 2)
        try FileManager.default.removeItem(atPath: path)
        var larger = tensors(7)
        larger["transformer.\(Self.layer).lora_B.bias"] = Tensor([1, 2, 3, 4], shape: [4])
        try write(larger, to: path)
        let failure = #expect(throws: Failure.self) { try library.weights("style", digest: digest) }
        #expect(failure?.code == "adapter_changed" && failure?.retry == .otherWorker)
        #expect(try library.adapter("style").entry.digest != digest)
    }

    @Test("the digest of an adapter of peft covers the configuration, which says its scale")
    func digestOfPeft() throws {
        let scratch = try ScratchFolder()
        let folder = "\(scratch.path)/style"
        try write(
            [
                "base_model.model.\(Self.layer).lora_A.weight": Tensor([1, 2, 3, 4, 5, 6], shape: [2, 3]),
                "base_model.model.\(Self.layer).lora_B.weight": Tensor([1, 2, 3, 4, 5, 6, 7, 8], shape: [4, 2]),
            ], to: "\(folder)/adapter_model.safetensors")
        func digest(alpha: Int) throws -> String {
            try "{\"peft_type\": \"LORA\", \"r\": 2, \"lora_alpha\": \(alpha)}"
                .write(toFile: "\(folder)/adapter_config.json", atomically: true, encoding: .utf8)
            return try AdapterLibrary(path: scratch.path, shapes: Self.shapes).adapter("style").entry.digest
        }
        let first = try digest(alpha: 2)
        #expect(try digest(alpha: 16) != first)
    }
}
