import Checkpoint
import Diffusion
import Failure
import Tensor
import Testing

@Suite("Noise levels and timesteps")
struct ScheduleTests {
    @Test("ᾱ equals diffusers' for every beta schedule, SNR shift and rescale")
    func alphas() throws {
        for golden in try Golden.load().schedules {
            let table = try NoiseSchedule(config: golden.config.schedulerConfig()).alphasCumprod
            #expect(table.count == 1000)
            let sampled = stride(from: 0, to: 1000, by: 37).map { table[$0] } + [table[999]]
            // Double-precision tables agree to the last bits; torch keeps the other schedules in float32.
            for (value, expected) in zip(sampled, golden.alphasCumprod) {
                #expect(abs(value - expected) <= 5e-7 * max(expected, 1e-2), "\(golden.config)")
            }
        }
    }

    @Test("the released schedule ends in pure noise and equals the written numbers")
    func releasedNumbers() throws {
        let table = try NoiseSchedule(config: releasedConfig(["snr_shift_scale": .number(3)])).alphasCumprod
        #expect(table[999] == 0)
        for (t, expected) in [(1, 0.9948006264269799), (499, 0.09596956169073541), (998, 6.230788467394798e-08)] {
            #expect(abs(table[t] - expected) <= 1e-13 * expected + 1e-16)
        }
    }

    @Test("timesteps equal diffusers' for every count and spacing", arguments: ["trailing", "leading", "linspace"])
    func timesteps(spacing: String) throws {
        let hashes = try #require(Golden.load().timesteps[spacing])
        let schedule = TimestepSchedule(config: try releasedConfig(["timestep_spacing": .string(spacing)]))
        for count in 1...1000 {
            let steps = try schedule.timesteps(numInferenceSteps: count, allowUnsafe: true)
            let hash = fnv1a(steps.map { UInt64(UInt32(truncatingIfNeeded: $0)) })
            #expect(String(hash, radix: 16) == hashes[count - 1], "\(count) steps")
        }
    }

    @Test("with trailing spacing the safe counts are the divisors of 1000")
    func safeCounts() throws {
        let schedule = TimestepSchedule(config: try releasedConfig())
        #expect((1...1000).filter(schedule.isSafe(stepCount:)) == (1...1000).filter { 1000 % $0 == 0 })
    }

    @Test("an unsafe count names its safe neighbours, and runs when allowed")
    func unsafeCount() throws {
        let schedule = TimestepSchedule(config: try releasedConfig())
        #expect {
            try schedule.timesteps(numInferenceSteps: 30)
        } throws: { error in
            guard let failure = error as? Failure else { return false }
            return failure.code == "num_inference_steps_unsafe" && failure.field == "num_inference_steps"
                && failure.message.contains("30") && failure.remedy?.contains("25 or 40") == true
        }
        #expect(try schedule.timesteps(numInferenceSteps: 30, allowUnsafe: true).count == 30)
        #expect(try schedule.timesteps(numInferenceSteps: 61, allowUnsafe: true).last == -1)
    }

    @Test("counts outside the schedule are refused", arguments: [0, -1, 1001, Int.max, Int.min])
    func invalidCount(count: Int) throws {
        let schedule = TimestepSchedule(config: try releasedConfig())
        #expect {
            try schedule.timesteps(numInferenceSteps: count, allowUnsafe: true)
        } throws: { ($0 as? Failure)?.code == "num_inference_steps_invalid" }
    }

    @Test("the forward process and its velocity equal diffusers'")
    func forwardProcess() throws {
        let schedule = try NoiseSchedule(config: releasedConfig())
        var (cleanSource, noiseSource) = (TorchGenerator(seed: 7), TorchGenerator(seed: 8))
        let clean = cleanSource.randn(shape: [1, 1, 1, 4, 4])
        let noise = noiseSource.randn(shape: [1, 1, 1, 4, 4])
        for golden in try Golden.load().forwardProcess {
            let noisy = try schedule.addNoise(noise, to: clean, timestep: golden.timestep)
            let velocity = try schedule.velocity(clean: clean, noise: noise, timestep: golden.timestep)
            #expect(largestDifference(noisy.values, golden.noisy) <= 1e-6)
            #expect(largestDifference(velocity.values, golden.velocity) <= 1e-6)
        }
        #expect(throws: Failure.self) { try schedule.addNoise(noise, to: clean, timestep: 1000) }
    }
}

/// The largest absolute difference of two equally long lists.
func largestDifference(_ first: [Float], _ second: [Float]) -> Float {
    first.count == second.count ? zip(first, second).map { abs($0 - $1) }.max() ?? 0 : .infinity
}
