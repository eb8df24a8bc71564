import Checkpoint
import Failure
import Foundation
import Testing

@Suite("The digest of a model")
struct DigestTests {
    @Test("it is the same wherever the folder lies, and 64 hexadecimal digits")
    func location() throws {
        let original = try ModelFolder(path: Golden.path("5b"))
        let copy = try ModelCopy(of: "5b")
        let digest = try original.digest()
        #expect(try ModelFolder(path: copy.path).digest() == digest)
        #expect(digest.count == 64 && digest.allSatisfy { $0.isHexDigit && !$0.isUppercase })
        #expect(try original.digest() == digest)
    }

    @Test(
        "a changed byte changes the digest of its component and of the model, and of nothing else",
        arguments: [
            (Component.transformer, "transformer/diffusion_pytorch_model.safetensors"), (.vae, "vae/config.json"),
            (.textEncoder, "text_encoder/model.safetensors"), (.tokenizer, "tokenizer/tokenizer.json"),
            (.scheduler, "scheduler/scheduler_config.json"),
        ])
    func change(component: Component, file: String) throws {
        let copy = try ModelCopy(of: "5b")
        let folder = try ModelFolder(path: copy.path)
        let model = try folder.digest()
        let before = try Component.allCases.map { component throws in try folder.digest(component) }
        var bytes = try Data(contentsOf: URL(filePath: "\(copy.path)/\(file)"))
        bytes[bytes.count - 2] ^= 1
        try copy.write(file, bytes)
        #expect(try folder.digest() != model)
        for (other, digest) in zip(Component.allCases, before) {
            #expect(try (folder.digest(other) == digest) == (other != component), "\(other)")
        }
    }

    @Test("files that are not part of a component do not count")
    func strangers() throws {
        let copy = try ModelCopy(of: "2b")
        let folder = try ModelFolder(path: copy.path)
        let digest = try folder.digest()
        try copy.write("README.md", "text")
        try copy.write("transformer/notes.txt", "text")
        #expect(try folder.digest() == digest)
    }

    @Test("a model without a tokenizer has no digest")
    func noTokenizer() throws {
        let failure = try #require(throws: Failure.self) {
            try ModelFolder(path: Golden.path("5b-i2v")).digest(.tokenizer)
        }
        #expect(failure.code == "model_config_invalid" && failure.field == "tokenizer")
    }
}
