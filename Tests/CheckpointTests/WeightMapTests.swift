import Checkpoint
import Failure
import Foundation
import Tensor
import TestSupport
import Testing

@Suite("The weights of a component")
struct WeightMapTests {
    private static let stem = "diffusion_pytorch_model"

    private func failure(_ copy: ModelCopy, _ component: Component = .transformer) throws -> Failure {
        let folder = try ModelFolder(path: copy.path)
        return try #require(throws: Failure.self) { try folder.weights(component) }
    }

    @Test("shards give the same tensors as one file", arguments: [2, 3])
    func shards(count: Int) throws {
        let whole = try ModelFolder(path: Golden.path("2b")).weights(.transformer)
        let copy = try ModelCopy()
        try copy.shard("transformer", stem: Self.stem, count: count)
        let sharded = try ModelFolder(path: copy.path).weights(.transformer)
        #expect(sharded.names == whole.names)
        for name in whole.names { #expect(identical(try sharded.tensor(name), try whole.tensor(name)), "\(name)") }
    }

    @Test("a shard that is not there is missing_shard and named")
    func missingShard() throws {
        let copy = try ModelCopy()
        try copy.shard("transformer", stem: Self.stem, count: 2)
        try copy.remove("transformer/\(ModelCopy.shardName(Self.stem, 1, of: 2))")
        let failure = try failure(copy)
        #expect(failure.code == "missing_shard")
        #expect(failure.message.contains("diffusion_pytorch_model-00002-of-00002.safetensors"))
    }

    @Test("a shard without a key that the index places there is corrupt_safetensors and names both")
    func shardLacksKey() throws {
        let copy = try ModelCopy()
        try copy.shard("transformer", stem: Self.stem, count: 2)
        let index = "transformer/\(Self.stem).safetensors.index.json"
        var placement = try #require(try copy.read(index)["weight_map"] as? [String: String])
        placement["proj_out.extra"] = ModelCopy.shardName(Self.stem, 0, of: 2)
        try copy.edit(index, ["weight_map": placement])
        let failure = try failure(copy)
        #expect(failure.code == "corrupt_safetensors")
        #expect(failure.message.contains("proj_out.extra"))
    }

    @Test("an index may not point outside its folder")
    func indexStaysInside() throws {
        let copy = try ModelCopy()
        try copy.shard("transformer", stem: Self.stem, count: 2)
        try copy.edit(
            "transformer/\(Self.stem).safetensors.index.json",
            ["weight_map": ["proj_out.bias": "../vae/a.safetensors"]])
        #expect(try failure(copy).code == "model_config_invalid")
    }

    @Test("an index that is no index is model_config_invalid", arguments: ["{}", "nonsense", "{\"weight_map\": {}}"])
    func brokenIndex(text: String) throws {
        let copy = try ModelCopy()
        try copy.shard("transformer", stem: Self.stem, count: 2)
        try copy.write("transformer/\(Self.stem).safetensors.index.json", text)
        #expect(try failure(copy).code == "model_config_invalid")
    }

    @Test(
        "file names with a variant, and the other library's stem, are found",
        arguments: [
            "diffusion_pytorch_model.fp16.safetensors", "diffusion_pytorch_model.bf16.safetensors", "model.safetensors",
        ])
    func otherNames(name: String) throws {
        let copy = try ModelCopy()
        try copy.move("transformer/\(Self.stem).safetensors", to: "transformer/\(name)")
        let weights = try ModelFolder(path: copy.path).weights(.transformer)
        #expect(weights.contains("proj_out.weight"))
    }

    @Test("pickled weights, shards without an index, and Git LFS pointers are told apart")
    func unusable() throws {
        let pickled = try ModelCopy()
        try pickled.move("vae/\(Self.stem).safetensors", to: "vae/\(Self.stem).bin")
        let first = try failure(pickled, .vae)
        #expect(first.code == "weights_not_found" && first.message.contains("pickled"))

        let unindexed = try ModelCopy()
        try unindexed.shard("vae", stem: Self.stem, count: 2)
        try unindexed.remove("vae/\(Self.stem).safetensors.index.json")
        let second = try failure(unindexed, .vae)
        #expect(second.code == "weights_not_found" && second.message.contains("index"))

        let pointer = try ModelCopy()
        try pointer.write("vae/\(Self.stem).safetensors", "version https://git-lfs.github.com/spec/v1\noid sha256:0\n")
        let third = try failure(pointer, .vae)
        #expect(third.code == "corrupt_safetensors" && third.remedy?.contains("git lfs pull") == true)
    }

    @Test("a truncated weight file is corrupt_safetensors")
    func truncated() throws {
        let copy = try ModelCopy()
        let file = "transformer/\(Self.stem).safetensors"
        let bytes = try Data(contentsOf: URL(filePath: "\(copy.path)/\(file)"))
        try copy.write(file, bytes.prefix(bytes.count - 5))
        #expect(try failure(copy).code == "corrupt_safetensors")
    }

    @Test("the check tells missing, unexpected and misshapen keys in one message")
    func check() throws {
        let weights = try ModelFolder(path: Golden.path("2b")).weights(.transformer)
        var expected: [String: [Int]] = [:]
        for name in weights.names { expected[name] = try weights.tensor(name).shape }
        try weights.check(expected: expected)

        expected["proj_in.weight"] = [4, 4]
        expected["norm_final.bias"] = nil
        expected["norm_final.weight"] = [31]
        let failure = try #require(throws: Failure.self) { try weights.check(expected: expected) }
        #expect(failure.code == "checkpoint_keys_mismatch")
        #expect(failure.message.contains("missing: proj_in.weight"))
        #expect(failure.message.contains("unexpected: norm_final.bias"))
        #expect(failure.message.contains("norm_final.weight is [32], not [31]"))

        expected["norm_final.weight"] = [32]
        try weights.check(expected: expected, optional: ["proj_in.weight"]) { $0 == "norm_final.bias" }
    }

    @Test("a long list of wrong keys is cut and counted")
    func longList() throws {
        let weights = try ModelFolder(path: Golden.path("2b")).weights(.transformer)
        let failure = try #require(throws: Failure.self) { try weights.check(expected: [:]) }
        #expect(failure.message.contains("and \(weights.names.count - 6) more"))
    }

    @Test("an unknown key is an error that names it")
    func unknownKey() throws {
        let weights = try ModelFolder(path: Golden.path("2b")).weights(.vae)
        let failure = try #require(throws: Failure.self) { try weights.tensor("no.such.key") }
        #expect(failure.code == "checkpoint_keys_mismatch" && failure.message.contains("no.such.key"))
    }
}
