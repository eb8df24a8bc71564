import Diffusion
import Failure
import Tensor
import Testing

@Suite("Guidance")
struct GuidanceTests {
    @Test("dynamic scales equal the pipeline's over whole runs")
    func dynamicScales() throws {
        for golden in try Golden.load().dynamicGuidance {
            let schedule = TimestepSchedule(config: try releasedConfig())
            let scales = try schedule.timesteps(numInferenceSteps: golden.count, allowUnsafe: true).map {
                Guidance.dynamicScale(golden.scale, timestep: $0, numInferenceSteps: golden.count)
            }
            #expect(scales.count == golden.values.count)
            for (scale, expected) in zip(scales, golden.values) { #expect(abs(scale - expected) <= 1e-9) }
        }
    }

    @Test("the 50-step sequence begins as written down")
    func writtenSequence() {
        let scales = [999, 979, 959, 939].map { Guidance.dynamicScale(6, timestep: $0, numInferenceSteps: 50) }
        for (scale, expected) in zip(scales, [2.291487, 2.543503, 6.974352, 6.420358]) {
            #expect(abs(scale - expected) < 1e-6)
        }
    }

    @Test("guidance moves from the unconditional through the conditional prediction")
    func classifierFree() throws {
        let uncond = Tensor([1, -2, 0.5], shape: [3])
        let cond = Tensor([2, -2, 0], shape: [3])
        #expect(try Guidance.classifierFree(uncond: uncond, cond: cond, scale: 6).values == [7, -2, -2.5])
        #expect(try Guidance.classifierFree(uncond: uncond, cond: cond, scale: 1).values == cond.values)
        #expect(throws: Failure.self) {
            try Guidance.classifierFree(uncond: uncond, cond: Tensor([1], shape: [1]), scale: 6)
        }
    }
}
