import Checkpoint
import Compute
import DemoModel
import Diffusion
import Failure
import Foundation
import Model
import Tensor
import TestSupport
import Testing

@Suite("Step caches")
struct StepCacheTests {
    /// One run of the reference with a step cache (`step_cache` in make_fixtures.py).
    struct Run: Decodable, Sendable, CustomTestStringConvertible {
        let model: String
        let method: String
        let setting: Double
        /// Whether each step was computed in full.
        let full: [Bool]
        /// What First-Block Cache compared with its threshold.
        let changes: [Double?]?
        let coefficients: [Double]?

        var testDescription: String { "\(model) \(method)" }

        var cache: StepCache {
            switch method {
            case "first_block": .firstBlock(threshold: setting)
            case "pab": .pyramidAttention(range: Int(setting))
            default: .teaCache(threshold: setting, coefficients: coefficients ?? [])
            }
        }
    }

    static func runs() throws -> [Run] {
        let bytes = try Data(contentsOf: URL(filePath: Golden.path("step-caches") + "/runs.json"))
        return try JSONDecoder().decode([Run].self, from: bytes)
    }

    /// A guided run of 25 DDIM steps from torch's noise of seed 42, as the fixture's.
    struct Loop {
        let session: DenoisingSession
        var sampler: Sampler
        var latents: Tensor
        var generator = TorchGenerator(seed: 42)
        var cache = StepCacheState.off
        var full: [Bool] = []
        var changes: [Double?] = []

        init(_ model: String, dtype: DType = .float32, threads: Int = 2, steps: Int = 25) throws {
            let folder = try ModelFolder(path: try model == "demo" ? DemoModel.path() : Golden.path(model))
            let config = folder.transformer
            let transformer = try Transformer3D(folder: folder, backend: CPUBackend(threads: threads), dtype: dtype)
            sampler = try Sampler(kind: .ddim, config: folder.scheduler, numInferenceSteps: steps)
            session = try transformer.session(
                frames: config.sampleLatentFrames, height: config.sampleHeight, width: config.sampleWidth,
                promptEmbeddings: try Self.prompts(model), timesteps: sampler.timesteps)
            let shape = [config.sampleLatentFrames, config.inChannels, config.sampleHeight, config.sampleWidth]
            latents = generator.randn(shape: shape)
        }

        private static func prompts(_ model: String) throws -> [Tensor] {
            guard model == "demo" else { return try Golden(model).forwardPrompts() }
            let file = try SafetensorsFile(path: Golden.path("step-caches") + "/expected.safetensors")
            return try file.tensor("demo.prompts").slices
        }

        mutating func run(_ steps: Range<Int>) throws {
            for step in steps {
                let predictions = try session.predict(
                    latents: latents, timestep: sampler.timesteps[step], cache: &cache)
                full.append(cache.lastStepWasFull)
                changes.append(cache.lastFirstBlockChange)
                let output = try Guidance.classifierFree(uncond: predictions[0], cond: predictions[1], scale: 4)
                latents = try sampler.step(
                    modelOutput: output, latents: latents, stepIndex: step, generator: &generator)
            }
        }
    }

    @Test("the same steps are computed and the same latents come out as in diffusers", arguments: try runs())
    func parity(run: Run) throws {
        let expected = try SafetensorsFile(path: Golden.path("step-caches") + "/expected.safetensors")
        var loop = try Loop(run.model)
        loop.cache = try loop.session.stepCache(run.cache)
        try loop.run(0..<25)
        #expect(loop.full == run.full)
        #expect(run.full.contains(true) && run.full.contains(false))
        for (ours, theirs) in zip(loop.changes, run.changes ?? []) {
            #expect((ours == nil) == (theirs == nil))
            if let ours, let theirs { #expect(abs(ours - theirs) <= 1e-4 * theirs) }
        }
        let wanted = try expected.tensor("\(run.model).\(run.method).latents")
        #expect(maxAbsoluteDifference(loop.latents, wanted) <= 1e-4)
    }

    @Test("a cache that never leaves anything out changes no bit", arguments: [DType.float32, .bfloat16])
    func neverReused(dtype: DType) throws {
        var plain = try Loop("5b", dtype: dtype)
        try plain.run(0..<25)
        // Below every change that occurs; a polynomial that never stays below the threshold; no steps between.
        let idle: [StepCache] = [
            .firstBlock(threshold: 1e-9), .teaCache(threshold: 0.1, coefficients: [1]), .pyramidAttention(range: 1),
        ]
        for cache in idle {
            var loop = try Loop("5b", dtype: dtype)
            loop.cache = try loop.session.stepCache(cache)
            try loop.run(0..<25)
            #expect(loop.full == Array(repeating: true, count: 25), "\(cache)")
            #expect(identical(loop.latents, plain.latents), "\(cache)")
        }
    }

    static let busy: [StepCache] = [
        .firstBlock(threshold: 0.9), .teaCache(threshold: 0.5, coefficients: [0.3, 0]), .pyramidAttention(range: 3),
    ]

    @Test("neither the number of threads nor a bfloat16 run taken twice changes a bit", arguments: busy)
    func threads(cache: StepCache) throws {
        for dtype in [DType.float32, .bfloat16] {
            var loops = [try Loop("5b", dtype: dtype, threads: 1), try Loop("5b", dtype: dtype, threads: 3)]
            for index in loops.indices {
                loops[index].cache = try loops[index].session.stepCache(cache)
                try loops[index].run(0..<25)
            }
            #expect(loops[0].full == loops[1].full && loops[0].full.contains(false))
            #expect(identical(loops[0].latents, loops[1].latents))
        }
    }

    @Test("a run that goes on from its last full step ends in the same bits, wherever it stopped", arguments: busy)
    func resumes(cache: StepCache) throws {
        var whole = try Loop("5b")
        whole.cache = try whole.session.stepCache(cache)
        var before: [Tensor] = []
        for step in 0..<25 {
            before.append(whole.latents)
            try whole.run(step..<(step + 1))
        }
        for stop in 1..<25 {
            let start = try #require(whole.full[..<stop].lastIndex(of: true))
            var resumed = try Loop("5b")
            resumed.cache = try resumed.session.stepCache(cache)
            resumed.latents = before[start]
            try resumed.run(start..<25)
            #expect(resumed.full == Array(whole.full[start...]), "stopped after \(stop)")
            #expect(identical(resumed.latents, whole.latents), "stopped after \(stop)")
        }
    }

    @Test("a step that does not follow the one before finds nothing kept")
    func gap() throws {
        var loop = try Loop("5b")
        loop.cache = try loop.session.stepCache(.pyramidAttention(range: 3))
        try loop.run(0..<4)
        #expect(loop.cache.isFull(step: 5) == false)
        try loop.run(5..<7)
        #expect(loop.full == [true, true, true, true, true, true])
        #expect(StepCacheState.off.isFull(step: 7) == true)
        #expect(try loop.session.stepCache(.firstBlock(threshold: 0.1)).isFull(step: 3) == nil)
    }

    @Test("work stops when the caller throws, and the step after it keeps nothing of the broken one")
    func interrupted() throws {
        var loop = try Loop("5b")
        loop.cache = try loop.session.stepCache(.firstBlock(threshold: 0.9))
        try loop.run(0..<3)
        let failure = try #require(throws: Failure.self) {
            try loop.session.predict(latents: loop.latents, timestep: loop.sampler.timesteps[3], cache: &loop.cache) {
                _, _ throws(Failure) in throw Failure("cancelled", "enough")
            }
        }
        #expect(failure.code == "cancelled")
        try loop.run(3..<4)
        #expect(loop.full.last == true)
    }

    @Test("Pyramid Attention Broadcast keeps to the published timesteps at 50 steps")
    func publishedBroadcast() throws {
        let loop = try Loop("5b", steps: 50)
        let cache = try loop.session.stepCache(.pyramidAttention(range: 2))
        let reused = loop.sampler.timesteps.indices.filter { cache.isFull(step: $0) == false }
        let timesteps = reused.map { loop.sampler.timesteps[$0] }
        #expect(timesteps.max() == 819 && timesteps.min() == 139)
        #expect(reused.allSatisfy { $0 % 2 == 1 } && reused.count == 18)
    }

    @Test("what is kept grows with the stream, and with the blocks for attention")
    func keptBytes() {
        func bytes(_ cache: StepCache) -> Int {
            cache.keptBytes(tokens: 17_776, prompts: 2, width: 1920, layers: 30, elementBytes: 2)
        }
        #expect(bytes(.teaCache(threshold: 0.2, coefficients: [])) == 273_039_360)
        #expect(bytes(.firstBlock(threshold: 0.05)) == 409_559_040)
        #expect(bytes(.pyramidAttention(range: 2)) == 4_095_590_400)
    }
}
