import Checkpoint
import Compute
import Failure
import Model
import Tensor
import TestSupport
import Testing

@Suite("The transformer")
struct TransformerTests {
    private func session(
        _ golden: Golden, _ transformer: Transformer3D, latents: Tensor, timesteps: [Int], prompts: [Tensor]? = nil
    ) throws -> DenoisingSession {
        try transformer.session(
            frames: latents.shape[0], height: latents.shape[2], width: latents.shape[3],
            promptEmbeddings: try prompts ?? golden.forwardPrompts(), timesteps: timesteps)
    }

    /// The largest difference from the reference over all forward passes of a fixture.
    private func difference(_ golden: Golden, _ transformer: Transformer3D, relative: Bool = false) throws -> Float {
        var worst: Float = 0
        for index in 0..<golden.forwardCount {
            let latents = try golden("forward.\(index).latents")
            let timestep = Int(try golden("forward.\(index).timestep").int32s()[0])
            let session = try session(golden, transformer, latents: latents, timesteps: [timestep])
            let predictions = try session.predict(latents: latents, timestep: timestep)
            let reference = try golden("forward.\(index).prediction")
            for (row, prediction) in predictions.enumerated() {
                let wanted = reference.rows(row..<(row + 1)).reshaped(prediction.shape)
                worst = max(
                    worst,
                    relative ? maxRelativeDifference(prediction, wanted) : maxAbsoluteDifference(prediction, wanted))
            }
        }
        return worst
    }

    @Test("predictions equal those of diffusers in float32, at the native size and at others", arguments: Golden.all)
    func parity(name: String) throws {
        let golden = try Golden(name)
        #expect(golden.forwardCount >= (name.hasSuffix("i2v") ? 1 : 2))
        let transformer = try Transformer3D(folder: golden.folder, backend: testBackend(), dtype: .float32)
        #expect(try difference(golden, transformer) <= 1e-4)
    }

    @Test("predictions in bfloat16 stay near", arguments: Golden.all)
    func bfloat16(name: String) throws {
        let golden = try Golden(name)
        let transformer = try Transformer3D(folder: golden.folder, backend: testBackend(), dtype: .bfloat16)
        #expect(try difference(golden, transformer, relative: true) <= 0.05)
    }

    @Test("F16 and BF16 weight files are read", arguments: [DType.float16, .bfloat16])
    func halfPrecisionFiles(dtype: DType) throws {
        let golden = try Golden("5b")
        let model = try RewrittenModel(of: "5b", file: WeightFile.transformer) { _, tensor in
            tensor.converted(to: dtype)
        }
        let transformer = try Transformer3D(folder: model.folder(), backend: testBackend(), dtype: .float32)
        let found = try difference(golden, transformer, relative: true)
        #expect(found > 0 && found <= (dtype == .float16 ? 0.005 : 0.04))
    }

    @Test("a prompt's prediction does not depend on the other prompt, nor a timestep's on the other timesteps")
    func independence() throws {
        let golden = try Golden("1.5")
        let transformer = try Transformer3D(folder: golden.folder, backend: testBackend(), dtype: .float32)
        let latents = try golden("forward.0.latents")
        let prompts = try golden.forwardPrompts()
        let both = try session(golden, transformer, latents: latents, timesteps: [999, 499, 19])
            .predict(latents: latents, timestep: 499)
        for (index, prompt) in prompts.enumerated() {
            let alone = try session(golden, transformer, latents: latents, timesteps: [499], prompts: [prompt])
                .predict(latents: latents, timestep: 499)
            #expect(maxAbsoluteDifference(alone[0], both[index]) <= 1e-5)
        }
    }

    @Test("a session can be used again, and leaves no trace of the step before")
    func repeatable() throws {
        let golden = try Golden("2b")
        let transformer = try Transformer3D(folder: golden.folder, backend: testBackend(), dtype: .float32)
        let latents = try golden("forward.0.latents")
        let session = try session(golden, transformer, latents: latents, timesteps: [999, 499])
        let first = try session.predict(latents: latents, timestep: 499)
        _ = try session.predict(latents: latents, timestep: 999)
        let second = try session.predict(latents: latents, timestep: 499)
        #expect(identical(first[0], second[0]) && identical(first[1], second[1]))
    }

    @Test("progress counts blocks, and work stops when the caller throws")
    func progress() throws {
        let golden = try Golden("2b")
        let transformer = try Transformer3D(folder: golden.folder, backend: testBackend(), dtype: .float32)
        let latents = try golden("forward.0.latents")
        let session = try session(golden, transformer, latents: latents, timesteps: [499])
        var told: [[Int]] = []
        _ = try session.predict(latents: latents, timestep: 499) { done, all throws(Failure) in
            told.append([done, all])
        }
        #expect(told == [[1, 2], [2, 2]] && session.blockCount == 2)
        let failure = try #require(throws: Failure.self) {
            try session.predict(latents: latents, timestep: 499) { _, _ throws(Failure) in
                throw Failure("cancelled", "enough")
            }
        }
        #expect(failure.code == "cancelled")
    }

    @Test("every wrong key of a checkpoint is told at once")
    func keys() throws {
        let model = try RewrittenModel(of: "2b", file: WeightFile.transformer) { key, tensor in
            switch key {
            case "transformer_blocks.0.attn1.to_q.weight": nil
            case "norm_final.weight": Tensor(zeros: [31])
            default: tensor
            }
        }
        let failure = try #require(throws: Failure.self) {
            try Transformer3D(folder: model.folder(), backend: testBackend(), dtype: .float32)
        }
        #expect(failure.code == "checkpoint_keys_mismatch")
        #expect(failure.message.contains("missing: transformer_blocks.0.attn1.to_q.weight"))
        #expect(failure.message.contains("norm_final.weight is [31], not [32]"))
    }

    @Test("a position table that the configuration does not use is ignored")
    func unusedPositions() throws {
        let model = try RewrittenModel(of: "5b", file: WeightFile.transformer) { _, tensor in tensor }
        let path = "\(model.path)/\(WeightFile.transformer)"
        let file = try SafetensorsFile(path: path)
        var tensors = ["patch_embed.pos_embedding": Tensor(zeros: [1, 2, 3])]
        for key in file.names { tensors[key] = try file.tensor(key).copied() }
        try SafetensorsWriter.write(tensors: tensors, to: path)
        let transformer = try Transformer3D(folder: model.folder(), backend: testBackend(), dtype: .float32)
        #expect(try difference(try Golden("5b"), transformer) <= 1e-4)
    }
}
