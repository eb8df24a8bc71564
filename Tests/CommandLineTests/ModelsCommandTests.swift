import ArgumentParser
import CommandLineService
import Failure
import Foundation
import Testing

@Suite("zoetrope models")
struct ModelsCommandTests {
    private static let tests = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent().path
    private static let source = "\(tests)/CheckpointTests/Fixtures/2b.pt"
    private static let base = "\(tests)/Golden/2b"
    private static let weights = "transformer/diffusion_pytorch_model.safetensors"

    /// Converts into a fresh folder, gives it to `body` and removes it.
    private func converting(_ arguments: [String] = [], _ body: (String) async throws -> Void) async throws {
        let folder = FileManager.default.temporaryDirectory.path + "/zoetrope-\(UUID().uuidString)"
        defer { try? FileManager.default.removeItem(atPath: folder) }
        let command = try ConvertCommand.parse([Self.source, folder, "--base", Self.base, "--copy"] + arguments)
        try await command.run()
        try await body(folder)
    }

    @Test("a converted model passes verification, and fails it after one changed byte") func convertAndVerify()
        async throws
    {
        try await converting { folder in
            let verify = try VerifyCommand.parse([folder])
            try await verify.run()
            let file = URL(filePath: "\(folder)/\(Self.weights)")
            var bytes = try Data(contentsOf: file)
            bytes[bytes.count - 1] ^= 1
            try bytes.write(to: file)
            await #expect(throws: ExitCode(1)) { try await verify.run() }
            let other = try VerifyCommand.parse([folder, "--digests", Self.base, "--values", "sampled"])
            await #expect(throws: ExitCode(1)) { try await other.run() }
        }
    }

    @Test("a model of other sizes than its weights never gets its name") func misfit() async throws {
        let folder = FileManager.default.temporaryDirectory.path + "/zoetrope-\(UUID().uuidString)"
        let command = try ConvertCommand.parse([
            Self.source, folder, "--vae", "\(Self.tests)/CheckpointTests/Fixtures/2b-vae.pt", "--text-encoder",
            Self.base,
            "--set", "vae.norm_num_groups=4", "--set", "transformer.num_layers=3",
        ])
        let failure = await #expect(throws: Failure.self) { try await command.run() }
        #expect(failure?.code == "checkpoint_keys_mismatch")
        #expect(!FileManager.default.fileExists(atPath: folder))
    }

    @Test("an adapter that does not fit the model is refused") func adapter() async throws {
        let file = "\(Self.tests)/CheckpointTests/Fixtures/adapter-metadata.safetensors"
        try await AdapterCommand.parse([file, "--model", Self.base, "--layers"]).run()
        let command = try AdapterCommand.parse([file, "--model", "\(Self.tests)/Golden/5b"])
        let failure = await #expect(throws: Failure.self) { try await command.run() }
        #expect(failure?.code == "adapter_shape_mismatch")
    }

    @Test("arguments that make no sense are refused before anything is read") func arguments() {
        for wrong in [["--variant", "3b"], ["--dtype", "int8"], ["--shard-size", "0"], ["--set", "transformer.x"]] {
            #expect(throws: (any Error).self, "\(wrong)") { try ConvertCommand.parse(["a", "b"] + wrong) }
        }
    }
}
