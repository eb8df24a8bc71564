import Checkpoint
import Compute
import DemoModel
import DenoiserService
import Diffusion
import Failure
import Request
import Stage
import Tensor
import TestSupport
import Testing

/// The denoiser's steps with a step cache: stopped anywhere, it goes on elsewhere to the same bits.
@Suite(.serialized, .timeLimit(.minutes(5)))
struct StepCacheTests {
    struct Cache: Sendable, CustomTestStringConvertible {
        var method: StepCacheMethod
        var threshold: Double?
        var coefficients: [Double]?
        var range: Int?
        var testDescription: String { method.rawValue }
    }

    static let caches = [
        Cache(method: .teacache, threshold: 0.6, coefficients: [1, 0]), Cache(method: .firstBlock, threshold: 0.4),
        Cache(method: .pyramidAttention, range: 3),
    ]
    static let steps = 20

    private let folder: ModelFolder
    private let handler: DenoiserHandler
    private let inputs: [String: Tensor]

    init() throws {
        folder = try ModelFolder(path: DemoModel.path())
        handler = try DenoiserHandler(
            folder: folder, backend: CPUBackend(threads: 2), budget: MemoryBudget(limit: nil))
        let shape = [1, folder.transformer.maxTextSeqLength, folder.transformer.textEmbedDim]
        inputs = [
            "prompt_embeds": randomTensor(shape, seed: 1), "negative_prompt_embeds": randomTensor(shape, seed: 2),
        ]
    }

    private func parameters(_ cache: Cache?, sampler: SamplerKind = .dpm) -> DenoiseParameters {
        DenoiseParameters(
            width: 64, height: 48, numFrames: 9, numInferenceSteps: Self.steps, guidanceScale: 4, useDynamicCFG: false,
            scheduler: sampler, seed: 7, dtype: .float32, stepCache: cache?.method,
            stepCacheThreshold: cache?.threshold,
            stepCacheCoefficients: cache?.coefficients, stepCacheRange: cache?.range)
    }

    private func task(
        _ parameters: DenoiseParameters, _ port: LocalPort, _ progress: TaskProgress = TaskProgress()
    ) throws -> StageTask {
        StageTask(
            name: "job/denoise", attempt: 1, parameters: try CanonicalJSON.encode(parameters), port: port,
            progress: progress)
    }

    /// `n` of the note `steps_computed: n of …`.
    private func computedSteps(_ result: StageResult) -> Int? {
        result.notes.first { $0.hasPrefix("steps_computed: ") }?.split(separator: " ").dropFirst().first.flatMap {
            Int($0)
        }
    }

    @Test("stopped after any step, the run goes on to the same bits and the same count of steps", arguments: caches)
    func resumes(cache: Cache) async throws {
        let parameters = parameters(cache)
        let whole = try await handler.run(task(parameters, LocalPort(inputs: inputs)))
        let expected = try #require(whole.output("latents"))
        let computed = try #require(computedSteps(whole))
        #expect(computed > 1 && computed < Self.steps)
        var repeated = 0
        for stop in 1..<Self.steps {
            let stopped = LocalPort(inputs: inputs)
            let interrupted = try task(parameters, stopped, TaskProgress(stoppingAfter: stop))
            let failure = await #expect(throws: Failure.self) { try await handler.run(interrupted) }
            #expect(failure?.code == "cancelled")
            let checkpoint = stopped.checkpoints.last
            #expect((checkpoint?.step ?? 0) <= stop)
            #expect((checkpoint?.tensor.byteCount ?? 0) < 4 * expected.byteCount, "what a cache keeps is not stored")
            if checkpoint?.step ?? 0 < stop { repeated += 1 }
            let progress = TaskProgress()
            let resumed = LocalPort(inputs: inputs, checkpoint: checkpoint)
            let result = try await handler.run(task(parameters, resumed, progress))
            #expect(identical(try #require(result.output("latents")), expected), "stopped after \(stop)")
            #expect(computedSteps(result) == computed, "stopped after \(stop)")
            #expect(progress.step == Self.steps && progress.total == Self.steps)
        }
        #expect(repeated > 0, "some steps must be reachable only by doing an earlier one again")
    }

    @Test("a run that was stopped twice still ends in the same bits", arguments: caches)
    func stoppedTwice(cache: Cache) async throws {
        let parameters = parameters(cache, sampler: .ddim)
        let whole = try await handler.run(task(parameters, LocalPort(inputs: inputs)))
        var checkpoint: (step: Int, tensor: Tensor)?
        for stop in [6, 11] {
            let port = LocalPort(inputs: inputs, checkpoint: checkpoint)
            let interrupted = try task(parameters, port, TaskProgress(stoppingAfter: stop))
            _ = await #expect(throws: Failure.self) { try await handler.run(interrupted) }
            checkpoint = port.checkpoints.last ?? checkpoint
        }
        let result = try await handler.run(task(parameters, LocalPort(inputs: inputs, checkpoint: checkpoint)))
        #expect(identical(try #require(result.output("latents")), try #require(whole.output("latents"))))
        #expect(computedSteps(result) == computedSteps(whole))
    }

    @Test("without a cache there is no note, and with one the latents differ")
    func off() async throws {
        let plain = try await handler.run(task(parameters(nil), LocalPort(inputs: inputs)))
        #expect(plain.notes.isEmpty)
        let latents = try #require(plain.output("latents"))
        for cache in Self.caches {
            let result = try await handler.run(task(parameters(cache), LocalPort(inputs: inputs)))
            #expect(!identical(try #require(result.output("latents")), latents))
            let note = try #require(result.notes.first)
            #expect(note.contains(" of \(Self.steps) (step cache \(cache.method.rawValue), "))
        }
    }

    @Test("what Pyramid Attention Broadcast keeps counts against the worker's memory")
    func memory() async throws {
        let plan = handler.memoryPlan.total
        let tight = try DenoiserHandler(
            folder: folder, backend: CPUBackend(threads: 1), budget: MemoryBudget(limit: plan))
        var parameters = parameters(Cache(method: .pyramidAttention, range: 2))
        parameters.width = 96
        parameters.height = 96
        parameters.numFrames = 17
        parameters.numInferenceSteps = 50
        let broadcast = try task(parameters, LocalPort(inputs: inputs))
        let failure = await #expect(throws: Failure.self) { try await tight.run(broadcast) }
        #expect(failure?.code == "memory_insufficient")
    }
}
