import Checkpoint
import Compute
import Failure
import Model
import Tensor
import TestSupport
import Testing

@Suite("What the transformer refuses")
struct TransformerRefusalTests {
    struct Size: Sendable, CustomTestStringConvertible {
        let fixture: String
        let frames: Int
        let height: Int
        let width: Int
        let code: String

        var testDescription: String { "\(fixture) [\(frames), C, \(height), \(width)] → \(code)" }
    }

    @Test(
        "sizes that the model cannot make are told before any work",
        arguments: [
            Size(fixture: "2b", frames: 3, height: 5, width: 8, code: "size_unsupported"),
            Size(fixture: "5b", frames: 3, height: 6, width: 7, code: "size_unsupported"),
            Size(fixture: "5b", frames: 3, height: 0, width: 8, code: "size_unsupported"),
            Size(fixture: "5b", frames: 3, height: 1 << 40, width: 1 << 40, code: "size_unsupported"),
            Size(fixture: "5b", frames: 0, height: 6, width: 8, code: "frame_count_unsupported"),
            Size(fixture: "1.5", frames: 3, height: 6, width: 8, code: "frame_count_unsupported"),
            Size(fixture: "5b-i2v", frames: 3, height: 8, width: 8, code: "size_unsupported"),
            Size(fixture: "5b-i2v", frames: 2, height: 6, width: 8, code: "frame_count_unsupported"),
        ])
    func sizes(size: Size) throws {
        let golden = try Golden(size.fixture)
        let transformer = try Transformer3D(folder: golden.folder, backend: testBackend(), dtype: .float32)
        let failure = try #require(throws: Failure.self) {
            try transformer.session(
                frames: size.frames, height: size.height, width: size.width,
                promptEmbeddings: try golden.forwardPrompts(), timesteps: [499])
        }
        #expect(failure.code == size.code)
        #expect(failure.remedy != nil)
    }

    @Test("prompt embeddings of another shape, dtype or length are told")
    func promptEmbeddings() throws {
        let golden = try Golden("5b")
        let transformer = try Transformer3D(folder: golden.folder, backend: testBackend(), dtype: .float32)
        func failure(_ prompts: [Tensor]) throws -> Failure {
            try #require(throws: Failure.self) {
                try transformer.session(frames: 3, height: 6, width: 8, promptEmbeddings: prompts, timesteps: [499])
            }
        }
        let good = randomTensor([24, 32], seed: 1)
        let bad: [[Tensor]] = [
            [], [randomTensor([24, 31], seed: 1)], [randomTensor([25, 32], seed: 1)],
            [good, randomTensor([23, 32], seed: 1)],
            [randomTensor([1, 24, 32], seed: 1)], [Tensor(ids: Array(repeating: 1, count: 24 * 32), shape: [24, 32])],
            [Tensor([], shape: [0, 32])],
        ]
        for prompts in bad {
            #expect(try failure(prompts).code == "prompt_embeds_misshapen", "\(prompts.map(\.shape))")
        }
        var values = good.floats()
        values[7] = .infinity
        #expect(try failure([Tensor(values, shape: [24, 32])]).code == "numeric_fault")
    }

    @Test("latents of another shape, unknown timesteps and NaN are told")
    func latents() throws {
        let golden = try Golden("5b")
        let transformer = try Transformer3D(folder: golden.folder, backend: testBackend(), dtype: .float32)
        let latents = try golden("forward.0.latents")
        let session = try transformer.session(
            frames: 3, height: 6, width: 8, promptEmbeddings: try golden.forwardPrompts(), timesteps: [499])
        func failure(_ latents: Tensor, timestep: Int = 499) throws -> Failure {
            try #require(throws: Failure.self) { try session.predict(latents: latents, timestep: timestep) }
        }
        #expect(try failure(latents.rows(0..<2)).code == "latents_misshapen")
        #expect(try failure(latents.reshaped([3, 4, 8, 6])).code == "latents_misshapen")
        #expect(try failure(latents, timestep: 500).code == "timestep_unknown")
        var values = latents.floats()
        values[100] = .nan
        let fault = try failure(Tensor(values, shape: latents.shape))
        #expect(fault.code == "numeric_fault" && fault.message.contains("100"))
        #expect(throws: Failure.self) {
            try transformer.session(
                frames: 3, height: 6, width: 8, promptEmbeddings: try golden.forwardPrompts(), timesteps: [])
        }
    }

    @Test("weights that overflow give a numeric fault and no latents")
    func overflow() throws {
        let model = try RewrittenModel(of: "2b", file: WeightFile.transformer) { key, tensor in
            key == "proj_out.bias"
                ? Tensor(Array(repeating: Float.infinity, count: tensor.count), shape: tensor.shape) : tensor
        }
        let golden = try Golden("2b")
        let transformer = try Transformer3D(folder: model.folder(), backend: testBackend(), dtype: .float32)
        let session = try transformer.session(
            frames: 3, height: 6, width: 8, promptEmbeddings: try golden.forwardPrompts(), timesteps: [499])
        let failure = try #require(throws: Failure.self) {
            try session.predict(latents: try golden("forward.0.latents"), timestep: 499)
        }
        #expect(failure.code == "numeric_fault")
    }
}
