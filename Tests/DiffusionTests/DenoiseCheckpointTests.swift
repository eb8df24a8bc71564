import Diffusion
import Failure
import Tensor
import Testing

@Suite("Checkpoints of a denoising run")
struct DenoiseCheckpointTests {
    @Test("a run continued from a checkpoint ends as the unbroken run does", arguments: SamplerKind.allCases)
    func checkpointed(kind: SamplerKind) throws {
        let config = try releasedConfig()
        func output(_ index: Int) -> Tensor {
            var source = TorchGenerator(seed: UInt64(index))
            return source.randn(shape: [1, 1, 1, 4, 4])
        }
        var sampler = try Sampler(kind: kind, config: config, numInferenceSteps: 5)
        var generator = TorchGenerator(seed: 1)
        var latents = generator.randn(shape: [1, 1, 1, 4, 4])
        var saved: Tensor?
        for index in 0..<5 {
            latents = try sampler.step(
                modelOutput: output(index), latents: latents, stepIndex: index, generator: &generator)
            if index == 2 {
                saved = DenoiseCheckpoint(
                    latents: latents, completedSteps: 3, previousOriginal: sampler.predictedOriginal,
                    generator: generator
                ).encode()
            }
        }
        let checkpoint = try DenoiseCheckpoint(decoding: try #require(saved))
        #expect(checkpoint.completedSteps == 3)
        var resumed = try Sampler(kind: kind, config: config, numInferenceSteps: 5)
        resumed.restore(previousOriginal: checkpoint.previousOriginal)
        var resumedGenerator = checkpoint.generator
        var resumedLatents = checkpoint.latents
        for index in checkpoint.completedSteps..<5 {
            resumedLatents = try resumed.step(
                modelOutput: output(index), latents: resumedLatents, stepIndex: index, generator: &resumedGenerator)
        }
        #expect(resumedLatents.values == latents.values)
    }

    @Test("the steps computed in full are told apart from the steps done, and are all of them where nothing is said")
    func computedSteps() throws {
        func decoded(_ computed: Int?, completed: Int = 4) throws -> Int {
            try DenoiseCheckpoint(
                decoding: DenoiseCheckpoint(
                    latents: Tensor([1, 2], shape: [2]), completedSteps: completed, previousOriginal: nil,
                    generator: TorchGenerator(seed: 0), computedSteps: computed
                ).encode()
            ).computedSteps
        }
        #expect(try decoded(nil) == 4)
        #expect(try decoded(3) == 3)
        #expect(try decoded(0) == 0)
        for wrong in [-1, 5] {
            #expect {
                try decoded(wrong)
            } throws: { ($0 as? Failure)?.code == "checkpoint_invalid" }
        }
    }

    @Test("the latents of every step, the model and the arithmetic come back from a checkpoint")
    func historyAndOrigin() throws {
        var state = DenoiseCheckpoint(
            latents: Tensor([3, 4], shape: [2]), completedSteps: 2, previousOriginal: nil,
            generator: TorchGenerator(seed: 0))
        state.history = [Tensor([1, 2], shape: [2]), state.latents]
        state.model = "abc"
        state.numerics = "avx2"
        let decoded = try DenoiseCheckpoint(decoding: state.encode())
        #expect(decoded.history.map(\.values) == [[1, 2], [3, 4]])
        #expect(decoded.model == "abc" && decoded.numerics == "avx2")
        state.history.removeLast()
        #expect {
            try DenoiseCheckpoint(decoding: state.encode())
        } throws: { ($0 as? Failure)?.code == "checkpoint_invalid" }
    }

    @Test("a damaged checkpoint is refused")
    func damagedCheckpoint() throws {
        let whole = DenoiseCheckpoint(
            latents: Tensor([1, 2], shape: [2]), completedSteps: 1, previousOriginal: nil,
            generator: TorchGenerator(seed: 0)
        ).encode()
        for count in [0, 7, 100, whole.count - 1] {
            #expect {
                try DenoiseCheckpoint(decoding: whole.rows(0..<count).copied())
            } throws: { ($0 as? Failure)?.code == "checkpoint_invalid" }
        }
        #expect(throws: Failure.self) { try DenoiseCheckpoint(decoding: Tensor([1], shape: [1])) }
    }
}
