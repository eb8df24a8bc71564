import Checkpoint
import Foundation
import Model
import Testing

/// The keys and parameter counts of the released checkpoints, as counted from instantiated diffusers and transformers
/// models: nothing of that size can be downloaded in a test, but its shapes can be checked.
@Suite("The shapes of the released checkpoints")
struct ReleasedShapesTests {
    struct Variant: Sendable, CustomTestStringConvertible {
        let name: String
        let transformer: String
        let keys: Int
        let elements: Int

        var testDescription: String { name }
    }

    static let large = #""num_attention_heads": 48, "num_layers": 42, "use_rotary_positional_embeddings": true"#

    static let variants = [
        Variant(name: "CogVideoX-2b", transformer: "{}", keys: 736, elements: 1_693_783_872),
        Variant(name: "CogVideoX-5b", transformer: "{\(large)}", keys: 1024, elements: 5_570_283_072),
        Variant(
            name: "CogVideoX-5b-I2V",
            transformer: "{\(large), \"in_channels\": 32, \"use_learned_positional_embeddings\": true}", keys: 1025,
            elements: 5_625_087_552),
        Variant(
            name: "CogVideoX1.5-5B", transformer: "{\(large), \"patch_size_t\": 2, \"patch_bias\": false}", keys: 1024,
            elements: 5_570_676_352),
        Variant(
            name: "CogVideoX1.5-5B-I2V",
            transformer: "{\(large), \"patch_size_t\": 2, \"in_channels\": 32, \"ofs_embed_dim\": 512}", keys: 1028,
            elements: 5_571_594_880),
    ]

    /// A folder with configurations alone.
    private func folder(transformer: String) throws -> ModelFolder {
        let path = FileManager.default.temporaryDirectory.path + "/zoetrope-\(UUID().uuidString)"
        defer { try? FileManager.default.removeItem(atPath: path) }
        let files = [
            "model_index.json": #"{"_class_name": "CogVideoXPipeline"}"#, "transformer/config.json": transformer,
            "vae/config.json": "{}", "scheduler/scheduler_config.json": "{}",
            "text_encoder/config.json": #"""
            {"d_model": 4096, "d_kv": 64, "num_heads": 64, "d_ff": 10240, "num_layers": 24, "vocab_size": 32128,
             "feed_forward_proj": "gated-gelu"}
            """#,
        ]
        for (name, text) in files {
            let file = URL(filePath: "\(path)/\(name)")
            try FileManager.default.createDirectory(
                at: file.deletingLastPathComponent(), withIntermediateDirectories: true)
            try Data(text.utf8).write(to: file)
        }
        return try ModelFolder(path: path)
    }

    private func elements(_ shapes: [String: [Int]]) -> Int { shapes.values.reduce(0) { $0 + $1.reduce(1, *) } }

    @Test("transformer keys and parameters", arguments: variants)
    func transformer(variant: Variant) throws {
        let shapes = Transformer3D.expectedWeights(try folder(transformer: variant.transformer).transformer)
        #expect(shapes.count == variant.keys)
        #expect(elements(shapes) == variant.elements)
    }

    @Test("autoencoder keys and parameters")
    func autoencoder() throws {
        let shapes = AutoencoderKLDecoder.expectedWeights(try folder(transformer: "{}").vae)
        #expect(shapes.count == 436)
        #expect(elements(shapes) == 215_583_907)
        #expect(elements(shapes.filter { $0.key.hasPrefix("encoder.") }) == 92_215_456)
    }

    @Test("text encoder keys and parameters")
    func textEncoder() throws {
        var shapes = T5Encoder.expectedWeights(try folder(transformer: "{}").textEncoder)
        #expect(shapes.removeValue(forKey: "encoder.embed_tokens.weight") == [32_128, 4096])
        #expect(shapes.count == 219)
        #expect(elements(shapes) == 4_762_310_656)
    }
}
