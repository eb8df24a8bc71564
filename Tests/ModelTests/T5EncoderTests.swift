import Checkpoint
import Compute
import Failure
import Model
import Tensor
import TestSupport
import Testing

@Suite("The T5 encoder")
struct T5EncoderTests {
    @Test("features equal those of transformers in float32", arguments: Golden.all)
    func parity(name: String) throws {
        let golden = try Golden(name)
        let encoder = try T5Encoder(folder: golden.folder, backend: testBackend(), dtype: .float32)
        for text in Golden.pipelines.contains(name) ? ["prompt", "negative"] : ["prompt"] {
            let features = try encoder.encode(ids: try golden("text.\(text).ids").int32s())
            #expect(features.dtype == .float32)
            #expect(maxAbsoluteDifference(features, try golden("text.\(text).embeddings")) <= 1e-4, "\(text)")
        }
    }

    @Test("features in bfloat16 stay near", arguments: Golden.pipelines)
    func bfloat16(name: String) throws {
        let golden = try Golden(name)
        let encoder = try T5Encoder(folder: golden.folder, backend: testBackend(), dtype: .bfloat16)
        let features = try encoder.encode(ids: try golden("text.prompt.ids").int32s())
        #expect(features.dtype == .bfloat16)
        // transformers itself is 2–3.5 % away from its float32 with these weights.
        #expect(relativeDifference(features, try golden("text.prompt.embeddings")) <= 0.05)
    }

    @Test("the token table may bear its other name, or both", arguments: [true, false])
    func tableNames(both: Bool) throws {
        var table: Tensor?
        let model = try RewrittenModel(of: "2b", file: WeightFile.textEncoder) { key, tensor in
            if key == "shared.weight" { table = tensor.copied() }
            return key == "shared.weight" && !both ? nil : tensor
        }
        var tensors: [String: Tensor] = ["encoder.embed_tokens.weight": try #require(table)]
        let path = "\(model.path)/\(WeightFile.textEncoder)"
        let file = try SafetensorsFile(path: path)
        for key in file.names { tensors[key] = try file.tensor(key).copied() }
        try SafetensorsWriter.write(tensors: tensors, to: path)
        let golden = try Golden("2b")
        let encoder = try T5Encoder(folder: model.folder(), backend: testBackend(), dtype: .float32)
        let features = try encoder.encode(ids: try golden("text.prompt.ids").int32s())
        #expect(maxAbsoluteDifference(features, try golden("text.prompt.embeddings")) <= 1e-4)
    }

    @Test("a token outside the vocabulary is an error that names it", arguments: [-1, 218])
    func unknownToken(id: Int32) throws {
        let encoder = try T5Encoder(folder: try Golden("2b").folder, backend: testBackend(), dtype: .float32)
        let failure = try #require(throws: Failure.self) { try encoder.encode(ids: [5, id, 1]) }
        #expect(failure.code == "token_out_of_range" && failure.message.contains("\(id)"))
        #expect(throws: Failure.self) { try encoder.encode(ids: []) }
    }

    @Test("a NaN in the weights is a numeric fault and not an embedding")
    func notANumber() throws {
        let model = try RewrittenModel(of: "2b", file: WeightFile.textEncoder) { key, tensor in
            key == "encoder.final_layer_norm.weight"
                ? Tensor(Array(repeating: Float.nan, count: tensor.count), shape: tensor.shape) : tensor
        }
        let encoder = try T5Encoder(folder: model.folder(), backend: testBackend(), dtype: .float32)
        let failure = try #require(throws: Failure.self) { try encoder.encode(ids: [1, 0, 0]) }
        #expect(failure.code == "numeric_fault")
    }

    @Test("work stops between layers when the caller throws")
    func stops() throws {
        let encoder = try T5Encoder(folder: try Golden("2b").folder, backend: testBackend(), dtype: .float32)
        var told: [Int] = []
        let failure = try #require(throws: Failure.self) {
            try encoder.encode(ids: [1, 0]) { done, _ throws(Failure) in
                told.append(done)
                throw Failure("cancelled", "enough")
            }
        }
        #expect(failure.code == "cancelled" && told == [1])
    }

    @Test("a missing layer is told by key")
    func missingKey() throws {
        let model = try RewrittenModel(of: "2b", file: WeightFile.textEncoder) { key, tensor in
            key.contains("block.1.layer.1.DenseReluDense.wo") ? nil : tensor
        }
        let failure = try #require(throws: Failure.self) {
            try T5Encoder(folder: model.folder(), backend: testBackend(), dtype: .float32)
        }
        #expect(failure.code == "checkpoint_keys_mismatch")
        #expect(failure.message.contains("missing: encoder.block.1.layer.1.DenseReluDense.wo.weight"))
    }
}
