import Checkpoint
import Failure
import Foundation
import Tensor
import Testing

@Suite("The verification of a model folder")
struct ModelVerificationTests {
    private static let weights = "transformer/diffusion_pytorch_model.safetensors"

    private func findings(
        _ folder: String, digests: DigestList? = nil, values: ModelVerification.Values = .all,
        shapes: [String: [Int]]? = nil
    ) -> [ModelVerification.Finding] {
        var verification = ModelVerification(folder: folder, digests: digests, values: values)
        verification.run(
            expected: { _, component in
                component == .transformer ? shapes.map { ModelVerification.Expectation(shapes: $0) } : nil
            }, progress: { _ in })
        return verification.findings
    }

    private func shapes() throws -> [String: [Int]] {
        let weights = try ModelFolder(path: Golden.path("2b")).weights(.transformer)
        var shapes: [String: [Int]] = [:]
        for name in weights.names { shapes[name] = try weights.tensor(name).shape }
        return shapes
    }

    /// A converted model, which carries its digests.
    private func converted(into scratch: ScratchFolder) throws -> String {
        var options = SATConversion.Options()
        options.base = Golden.path("2b")
        options.copiesFiles = true
        let folder = "\(scratch.path)/model"
        try SATConversion(source: Fixture.path("2b.pt"), destination: folder, options: options).run()
        return folder
    }

    @Test("a converted model is whole, and the progress ends at its total")
    func whole() throws {
        let scratch = try ScratchFolder()
        let folder = try converted(into: scratch)
        var verification = ModelVerification(folder: folder, digests: try DigestList.inside(folder), values: .all)
        var last: ByteProgress?
        let shapes = try shapes()
        verification.run(expected: { _, component in
            component == .transformer ? ModelVerification.Expectation(shapes: shapes) : nil
        }) { last = $0 }
        #expect(verification.findings == [])
        #expect(verification.fileCount == 10 && verification.tensorCount > 60)
        #expect(last?.doneBytes == last?.totalBytes)
    }

    @Test("a changed byte, a missing file and a file that grew are told by name")
    func digests() throws {
        let scratch = try ScratchFolder()
        let folder = try converted(into: scratch)
        let list = try #require(try DigestList.inside(folder))
        let path = "\(folder)/\(Self.weights)"
        var bytes = try Data(contentsOf: URL(filePath: path))
        bytes[bytes.count - 3] ^= 1
        try bytes.write(to: URL(filePath: path))
        try FileManager.default.removeItem(atPath: "\(folder)/tokenizer/tokenizer_config.json")
        let found = findings(folder, digests: list, values: .none)
        #expect(found.map(\.place) == ["tokenizer/tokenizer_config.json", Self.weights])
        #expect(found[0].message == "is missing" && found[1].message.contains("SHA-256"))
    }

    @Test("digests are read from sha256sum, JSON, one pointer and a folder of pointers")
    func lists() throws {
        let scratch = try ScratchFolder()
        let copy = try ModelCopy()
        let right = "0c4b8b5b0d8e7d0c8ef8c1c9c8f6a4a3d7a6d2a8b6f0e1f2a3b4c5d6e7f8a9b0"
        let manager = FileManager.default
        try manager.createDirectory(atPath: "\(scratch.path)/clone/vae", withIntermediateDirectories: true)
        let pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:\(right)\nsize 12\n"
        let files = [
            "sums": "# comment\n\(right)  ./model_index.json\n\(right) *vae/config.json\n",
            "plain.json": "{\"model_index.json\": \"sha256:\(right)\", \"vae/config.json\": \"\(right)\"}",
            "nested.json": "{\"files\": {\"model_index.json\": \"\(right)\", \"vae/config.json\": \"\(right)\"}}",
            "clone/model_index.json": pointer, "clone/vae/config.json": pointer,
        ]
        for (name, text) in files { try Data(text.utf8).write(to: URL(filePath: "\(scratch.path)/\(name)")) }
        for name in ["sums", "plain.json", "nested.json", "clone"] {
            let list = try DigestList(path: "\(scratch.path)/\(name)")
            let places = findings(copy.path, digests: list, values: .none).map(\.place)
            #expect(places == ["model_index.json", "vae/config.json"], "\(name)")
        }
        let single = try DigestList(path: "\(scratch.path)/clone/model_index.json")
        #expect(findings(copy.path, digests: single, values: .none).first?.message.contains("not 12") == true)
        // A pointer folder's ordinary files count by their contents.
        let other = try DigestList(path: copy.path)
        #expect(findings(copy.path, digests: other, values: .none) == [])
    }

    @Test(
        "a list that is none is digests_invalid",
        arguments: [
            "", "abc  file", "{\"a\": 1}", "{",
            "0c4b8b5b0d8e7d0c8ef8c1c9c8f6a4a3d7a6d2a8b6f0e1f2a3b4c5d6e7f8a9b0  ../x",
        ])
    func invalidList(text: String) throws {
        let scratch = try ScratchFolder()
        try Data(text.utf8).write(to: URL(filePath: "\(scratch.path)/list"))
        let failure = try #require(throws: Failure.self) { try DigestList(path: "\(scratch.path)/list") }
        #expect(failure.code == "digests_invalid")
    }

    @Test("NaN is found by its key and place, sampled too where it is looked at")
    func values() throws {
        let copy = try ModelCopy()
        let path = "\(copy.path)/\(Self.weights)"
        let file = try SafetensorsFile(path: path)
        var tensors: [String: Tensor] = [:]
        for name in file.names { tensors[name] = try file.tensor(name).copied() }
        var spoilt = try #require(tensors["proj_out.bias"])
        spoilt.withUnsafeMutableBytes { $0.storeBytes(of: Float.nan, toByteOffset: 8, as: Float.self) }
        tensors["proj_out.bias"] = spoilt
        try SafetensorsWriter.write(tensors: tensors, to: path)
        for values in [ModelVerification.Values.all, .sampled] {
            let found = findings(copy.path, values: values)
            #expect(found.map(\.place) == ["transformer: proj_out.bias"])
            #expect(found.first?.message.contains("element 2") == true)
        }
        #expect(findings(copy.path, values: .none) == [])
    }

    @Test("wrong keys, missing weights and a broken configuration are findings, not crashes")
    func structure() throws {
        var expected = try shapes()
        expected["proj_in.weight"] = [1]
        #expect(
            findings(Golden.path("2b"), values: .none, shapes: expected).first?.message.contains("proj_in.weight")
                == true)
        let copy = try ModelCopy()
        try copy.remove("vae/diffusion_pytorch_model.safetensors")
        #expect(findings(copy.path).map(\.place) == ["vae"])
        try copy.write("vae/config.json", "{")
        #expect(findings(copy.path).map(\.place) == ["vae", "vae/config.json"])
        #expect(findings("/nowhere/at-all").isEmpty == false)
    }
}
