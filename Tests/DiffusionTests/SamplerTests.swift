import Checkpoint
import Diffusion
import Failure
import Tensor
import Testing

@Suite("The DDIM and DPM samplers")
struct SamplerTests {
    static let dtypes: [String: DType] = ["float32": .float32, "bfloat16": .bfloat16, "float16": .float16]

    /// Runs a golden case and returns the latents after every step.
    static func run(_ golden: Golden.SamplerCase) throws -> [Tensor] {
        var sampler = try Sampler(
            kind: #require(SamplerKind(rawValue: golden.kind)), config: golden.config.schedulerConfig(),
            numInferenceSteps: golden.count, allowUnsafe: true)
        var generator = TorchGenerator(seed: 42)
        var latents = generator.randn(shape: golden.shape, dtype: try #require(dtypes[golden.dtype]))
        var steps: [Tensor] = []
        for index in sampler.timesteps.indices {
            var source = TorchGenerator(seed: UInt64(1000 + index))
            latents = try sampler.step(
                modelOutput: source.randn(shape: golden.shape), latents: latents, stepIndex: index,
                generator: &generator)
            steps.append(latents)
        }
        return steps
    }

    @Test("every step equals diffusers', float32, bfloat16 and float16", arguments: try Golden.load().samplers)
    func matchesDiffusers(golden: Golden.SamplerCase) throws {
        let expected = try GoldenTensors("samplers.safetensors").tensor(golden.name)
        let steps = try Self.run(golden)
        #expect(steps.count == expected.shape[0])
        let size = golden.shape.reduce(1, *)
        // Other beta schedules are float32 tables in torch; the last bit of an entry moves the latents a little.
        guard case .object(let config) = golden.config, case .string(let schedule) = config["beta_schedule"] else {
            return
        }
        let tolerance: Float = schedule == "scaled_linear" ? 0 : 2e-6
        for (index, latents) in steps.enumerated() {
            let wanted = Array(expected.values[(index * size)..<((index + 1) * size)])
            #expect(largestDifference(latents.values, wanted) <= tolerance, "step \(index)")
        }
    }

    @Test("a sampler's class name tells its kind")
    func classNames() {
        #expect(SamplerKind(className: "CogVideoXDDIMScheduler") == .ddim)
        #expect(SamplerKind(className: "CogVideoXDPMScheduler") == .dpm)
        #expect(SamplerKind(className: "EulerDiscreteScheduler") == nil)
    }

    @Test("wrong shapes, dtypes, step numbers and values are refused by name")
    func refusals() throws {
        var sampler = try Sampler(kind: .dpm, config: releasedConfig(), numInferenceSteps: 4)
        var generator = TorchGenerator(seed: 0)
        let good = generator.randn(shape: [1, 1, 1, 4, 4])
        func code(_ output: Tensor, _ latents: Tensor, _ index: Int) -> String? {
            do {
                _ = try sampler.step(modelOutput: output, latents: latents, stepIndex: index, generator: &generator)
                return nil
            } catch { return error.code }
        }
        #expect(code(good.reshaped([16]), good, 0) == "tensor_shape_mismatch")
        #expect(code(Tensor(zeros: good.shape, dtype: .int32), good, 0) == "tensor_dtype_invalid")
        #expect(code(good, good, 4) == "step_index_invalid")
        #expect(code(good, good, 1) == "previous_original_missing")
        #expect(code(Tensor([Float](repeating: .nan, count: 16), shape: good.shape), good, 0) == "latents_not_finite")
        #expect(code(good, good, 0) == nil)
    }
}
