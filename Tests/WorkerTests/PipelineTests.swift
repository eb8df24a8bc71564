import Checkpoint
import Compute
import DemoModel
import DenoiserService
import Diffusion
import Failure
import Request
import Stage
import Synchronization
import Tensor
import TestSupport
import Testing
import TextEncoderService
import VAEDecoderService

/// The three stages that hold a network, run on the demo model inside this process.
@Suite(.serialized, .timeLimit(.minutes(2)))
struct PipelineTests {
    private let folder: ModelFolder
    private let backend = CPUBackend(threads: 2)
    private let budget = MemoryBudget(limit: nil)

    init() throws { folder = try ModelFolder(path: DemoModel.path()) }

    private func encode(
        _ prompt: String, negative: String? = "", dtype: Precision = .float32
    ) async throws -> StageResult {
        let handler = try TextEncoderHandler(folder: folder, backend: backend, budget: budget)
        let parameters = EncodeParameters(prompt: prompt, negativePrompt: negative, dtype: dtype)
        return try await handler.run(task(parameters, LocalPort(inputs: [:])))
    }

    private func task(
        _ parameters: some Encodable, _ port: LocalPort, _ progress: TaskProgress = TaskProgress()
    ) throws -> StageTask {
        StageTask(
            name: "job/task", attempt: 1, parameters: try CanonicalJSON.encode(parameters), port: port,
            progress: progress)
    }

    private func parameters(
        _ sampler: SamplerKind, steps: Int = 5, guidance: Double = 4, keepSteps: Bool = false,
        dtype: Precision = .float32
    ) -> DenoiseParameters {
        DenoiseParameters(
            width: 64, height: 48, numFrames: 9, numInferenceSteps: steps, guidanceScale: guidance, useDynamicCFG: true,
            scheduler: sampler, seed: 7, dtype: dtype, keepStepLatents: keepSteps)
    }

    private func inputs(of encoded: StageResult) -> [String: Tensor] {
        Dictionary(uniqueKeysWithValues: encoded.outputs.map { ($0.name, $0.tensor) }).filter { $0.key != "input_ids" }
    }

    @Test("a prompt becomes ids and features of the model's text length, and a negative prompt its own")
    func encodes() async throws {
        let length = folder.transformer.maxTextSeqLength
        let result = try await encode("the sun rising over green hills", negative: "dark")
        #expect(result.output("input_ids")?.shape == [1, length])
        #expect(result.output("input_ids")?.dtype == .int32)
        let positive = try #require(result.output("prompt_embeds"))
        let negative = try #require(result.output("negative_prompt_embeds"))
        #expect(positive.shape == [1, length, folder.textEncoder.dModel])
        #expect(maxAbsoluteDifference(positive, negative) > 1e-3)
        #expect(try await encode("hills", negative: nil).outputs.map(\.name) == ["input_ids", "prompt_embeds"])
        #expect(result.notes.isEmpty)
    }

    @Test("a prompt over the limit is cut, and the note names what was cut off in diffusers' words")
    func truncation() async throws {
        let limit = folder.transformer.maxTextSeqLength
        let prompt = (0..<limit).map { _ in "green" }.joined(separator: " ") + " at the very end"
        let note = try #require(try await encode(prompt).notes.first)
        #expect(
            note.hasPrefix(
                "The following part of your input was truncated because `max_sequence_length` is set to  \(limit) tokens: "
            ))
        #expect(note.hasSuffix("at the very end"))
    }

    @Test("an upsampled prompt takes the place of the prompt")
    func upsampled() async throws {
        let handler = try TextEncoderHandler(folder: folder, backend: backend, budget: budget)
        let parameters = EncodeParameters(prompt: "hills", negativePrompt: nil, dtype: .float32)
        let port = LocalPort(inputs: ["prompt": Tensor(bytes: Array("blue sea".utf8))])
        let result = try await handler.run(task(parameters, port))
        let expected = try await encode("blue sea", negative: nil)
        #expect(identical(try #require(result.output("prompt_embeds")), try #require(expected.output("prompt_embeds"))))
        let broken = LocalPort(inputs: ["prompt": Tensor(bytes: [0xff, 0xfe])])
        let failure = await #expect(throws: Failure.self) { try await handler.run(task(parameters, broken)) }
        #expect(failure?.code == "prompt_not_text")
    }

    @Test("from any checkpoint the run ends in the same bits", arguments: [SamplerKind.ddim, .dpm])
    func resumes(sampler: SamplerKind) async throws {
        let handler = try DenoiserHandler(folder: folder, backend: backend, budget: budget)
        let inputs = inputs(of: try await encode("the sun"))
        let whole = LocalPort(inputs: inputs)
        let parameters = parameters(sampler)
        let expected = try #require(try await handler.run(task(parameters, whole)).output("latents"))
        let stopped = LocalPort(inputs: inputs)
        let interrupted = try task(parameters, stopped, TaskProgress(stoppingAfter: 2))
        let failure = await #expect(throws: Failure.self) { try await handler.run(interrupted) }
        #expect(failure?.code == "cancelled")
        let checkpoint = try #require(stopped.checkpoints.last, "a stopped run saves what is done")
        #expect(checkpoint.step == 2)
        let resumed = LocalPort(inputs: inputs, checkpoint: checkpoint)
        let result = try await handler.run(task(parameters, resumed))
        #expect(result.notes == ["Resumed after step \(checkpoint.step)."])
        #expect(identical(try #require(result.output("latents")), expected))
    }

    @Test(
        "a draft foretells the clip, and a job that goes on from it ends in the same bits",
        arguments: [SamplerKind.ddim, .dpm], [nil, StepCacheMethod.pyramidAttention])
    func drafts(sampler: SamplerKind, cache: StepCacheMethod?) async throws {
        let handler = try DenoiserHandler(folder: folder, backend: backend, budget: budget)
        let inputs = inputs(of: try await encode("the sun"))
        var whole = parameters(sampler)
        whole.stepCache = cache
        whole.stepCacheRange = cache == nil ? nil : 2
        let expected = try #require(
            try await handler.run(task(whole, LocalPort(inputs: inputs))).output("latents"))
        var draft = whole
        draft.stepsUntil = 3
        let stopped = try await handler.run(task(draft, LocalPort(inputs: inputs)))
        let preview = try #require(stopped.output("latents")), state = try #require(stopped.output("state"))
        #expect(preview.shape == expected.shape && !identical(preview, expected))
        let rest = LocalPort(inputs: inputs.merging(["state": state]) { $1 })
        #expect(identical(try #require(try await handler.run(task(whole, rest)).output("latents")), expected))
    }

    @Test("a damaged checkpoint costs time and not the job")
    func damagedCheckpoint() async throws {
        let handler = try DenoiserHandler(folder: folder, backend: backend, budget: budget)
        let inputs = inputs(of: try await encode("the sun"))
        let parameters = parameters(.ddim, steps: 2)
        let expected = try await handler.run(task(parameters, LocalPort(inputs: inputs)))
        let damaged = LocalPort(inputs: inputs, checkpoint: (step: 1, tensor: Tensor(bytes: [1, 2, 3])))
        let result = try await handler.run(task(parameters, damaged))
        #expect(result.notes.last?.hasPrefix("Started over") == true)
        #expect(identical(try #require(result.output("latents")), try #require(expected.output("latents"))))
    }

    @Test("behind a damaged checkpoint the run goes on from the one before it, in the same bits")
    func earlierCheckpoint() async throws {
        let handler = try DenoiserHandler(folder: folder, backend: backend, budget: budget)
        let inputs = inputs(of: try await encode("the sun"))
        let parameters = parameters(.dpm, steps: 4)
        let expected = try await handler.run(task(parameters, LocalPort(inputs: inputs)))
        let stopped = LocalPort(inputs: inputs)
        let interrupted = try task(parameters, stopped, TaskProgress(stoppingAfter: 2))
        await #expect(throws: Failure.self) { try await handler.run(interrupted) }
        let good = try #require(stopped.checkpoints.last)
        var bytes = good.tensor.withUnsafeBytes { Array($0) }
        bytes.removeLast(bytes.count / 2)
        let port = LocalPort(inputs: inputs, checkpoint: (step: 3, tensor: Tensor(bytes: bytes)), earlier: good)
        let result = try await handler.run(task(parameters, port))
        #expect(result.notes.count == 2 && result.notes.last == "Resumed after step 2.", "\(result.notes)")
        #expect(result.notes.first?.hasPrefix("The checkpoint after step 3 could not be used") == true)
        #expect(identical(try #require(result.output("latents")), try #require(expected.output("latents"))))
    }

    @Test("a run that keeps every step's latents goes on from a checkpoint with all of them")
    func resumesWithStepLatents() async throws {
        let handler = try DenoiserHandler(folder: folder, backend: backend, budget: budget)
        let inputs = inputs(of: try await encode("the sun"))
        let parameters = parameters(.dpm, keepSteps: true)
        let expected = try await handler.run(task(parameters, LocalPort(inputs: inputs)))
        let stopped = LocalPort(inputs: inputs)
        let interrupted = try task(parameters, stopped, TaskProgress(stoppingAfter: 3))
        await #expect(throws: Failure.self) { try await handler.run(interrupted) }
        let checkpoint = try #require(stopped.checkpoints.last)
        let result = try await handler.run(task(parameters, LocalPort(inputs: inputs, checkpoint: checkpoint)))
        #expect(result.notes == ["Resumed after step 3."])
        for name in ["latents", "latents_steps"] {
            #expect(identical(try #require(result.output(name)), try #require(expected.output(name))), "\(name)")
        }
        let without = LocalPort(inputs: inputs)
        let other = try task(self.parameters(.dpm), without, TaskProgress(stoppingAfter: 3))
        await #expect(throws: Failure.self) { try await handler.run(other) }
        let lacking = LocalPort(inputs: inputs, checkpoint: without.checkpoints.last)
        let over = try await handler.run(task(parameters, lacking))
        #expect(over.notes.last?.hasPrefix("Started over") == true)
        #expect(identical(try #require(over.output("latents_steps")), try #require(expected.output("latents_steps"))))
    }

    @Test("a run that is wanted back says so; a checkpoint names the model and the arithmetic")
    func yields() async throws {
        let handler = try DenoiserHandler(folder: folder, backend: backend, budget: budget)
        let inputs = inputs(of: try await encode("the sun"))
        let port = LocalPort(inputs: inputs)
        let task = try task(parameters(.ddim), port)
        task.progress.yield("drain")
        let failure = await #expect(throws: Failure.self) { try await handler.run(task) }
        #expect(failure?.code == "yielded")
        #expect(port.checkpoints.isEmpty, "nothing was done yet")
        let stopped = LocalPort(inputs: inputs)
        let cancelled = try self.task(parameters(.ddim), stopped, TaskProgress(stoppingAfter: 2))
        await #expect(throws: Failure.self) { try await handler.run(cancelled) }
        let state = try DenoiseCheckpoint(decoding: try #require(stopped.checkpoints.last).tensor)
        #expect(state.model == handler.modelDigest && state.numerics == handler.numerics)
    }

    @Test("a checkpoint of another model is not used")
    func checkpointOfAnotherModel() async throws {
        let handler = try DenoiserHandler(folder: folder, backend: backend, budget: budget)
        let inputs = inputs(of: try await encode("the sun"))
        let stopped = LocalPort(inputs: inputs)
        let interrupted = try task(parameters(.ddim), stopped, TaskProgress(stoppingAfter: 2))
        await #expect(throws: Failure.self) { try await handler.run(interrupted) }
        var state = try DenoiseCheckpoint(decoding: try #require(stopped.checkpoints.last).tensor)
        state.model = "another"
        let foreign = LocalPort(inputs: inputs, checkpoint: (step: 2, tensor: state.encode()))
        let result = try await handler.run(task(parameters(.ddim), foreign))
        #expect(result.notes.last?.hasPrefix("Started over") == true)
    }

    @Test("checkpoints take a fiftieth of the time at most and come after five seconds; growing ones wait longer")
    func checkpointPolicy() {
        let start = ContinuousClock.now
        var policy = CheckpointPolicy(isGrowing: false, now: start)
        #expect(!policy.isDue(now: start + .milliseconds(99)))
        #expect(policy.isDue(now: start + .milliseconds(100)))
        policy.saved(step: 3, cost: .milliseconds(40), now: start)
        #expect(policy.lastStep == 3)
        #expect(!policy.isDue(now: start + .milliseconds(1999)))
        #expect(policy.isDue(now: start + .seconds(2)))
        policy.saved(step: 4, cost: .seconds(1), now: start)
        #expect(!policy.isDue(now: start + .milliseconds(4999)))
        #expect(policy.isDue(now: start + .seconds(5)))
        var growing = CheckpointPolicy(isGrowing: true, now: start)
        growing.saved(step: 4, cost: .seconds(1), now: start)
        #expect(!growing.isDue(now: start + .milliseconds(49_999)))
        #expect(growing.isDue(now: start + .seconds(50)))
    }

    @Test("the latents of every step are kept when asked, the last being the result")
    func stepLatents() async throws {
        let handler = try DenoiserHandler(folder: folder, backend: backend, budget: budget)
        let inputs = inputs(of: try await encode("the sun"))
        let result = try await handler.run(
            task(parameters(.ddim, steps: 4, keepSteps: true), LocalPort(inputs: inputs)))
        let latents = try #require(result.output("latents"))
        let steps = try #require(result.output("latents_steps"))
        #expect(steps.shape == [4] + latents.shape)
        #expect(identical(steps.rows(3..<4).reshaped(latents.shape), latents))
    }

    @Test("initial latents take the place of the seed's noise")
    func initialLatents() async throws {
        let handler = try DenoiserHandler(folder: folder, backend: backend, budget: budget)
        var inputs = inputs(of: try await encode("the sun"))
        let parameters = parameters(.ddim, steps: 2)
        let expected = try await handler.run(task(parameters, LocalPort(inputs: inputs)))
        let latents = try #require(expected.output("latents"))
        var generator = TorchGenerator(seed: 7)
        inputs["init_latents"] = generator.randn(shape: latents.shape)
        let result = try await handler.run(task(parameters, LocalPort(inputs: inputs)))
        #expect(identical(try #require(result.output("latents")), latents))
        inputs["init_latents"] = Tensor(zeros: [1, 1] + Array(latents.shape.dropFirst(2)))
        let wrong = try task(parameters, LocalPort(inputs: inputs))
        let failure = await #expect(throws: Failure.self) { try await handler.run(wrong) }
        #expect(failure?.code == "tensor_misshapen" && failure?.field == "init_latents")
    }

    @Test("latents become frames of the clip's size, as bytes and as floats")
    func decodes() async throws {
        let handler = try VAEDecoderHandler(folder: folder, backend: backend, budget: budget)
        let channels = folder.vae.latentChannels
        let latents = randomTensor([1, 3, channels, 6, 8], seed: 1)
        let parameters = DecodeParameters(dtype: .float32, numFrames: 9, keepFloatFrames: true)
        let task = try task(parameters, LocalPort(inputs: ["latents": latents]))
        let result = try await handler.run(task)
        let frames = try #require(result.output("frames"))
        let floats = try #require(result.output("frames_float32"))
        let scale = folder.vae.spatialCompressionRatio
        #expect(frames.shape == [9, 6 * scale, 8 * scale, 3] && frames.dtype == .uint8)
        #expect(floats.shape == [1] + frames.shape)
        let rounded = floats.floats().map { ($0 * 255).rounded(.toNearestOrEven) }
        #expect(rounded == frames.floats())
        #expect(task.progress.step == task.progress.total && task.progress.total > 0)
    }

    @Test("frames that were padded in front are dropped before decoding")
    func dropsPadding() async throws {
        let handler = try VAEDecoderHandler(folder: folder, backend: backend, budget: budget)
        let latents = randomTensor([1, 4, folder.vae.latentChannels, 4, 4], seed: 1)
        let unpadded = latents.reshaped(Array(latents.shape.dropFirst())).rows(1..<4)
        let parameters = DecodeParameters(dtype: .float32, numFrames: 9)
        let padded = try await handler.run(task(parameters, LocalPort(inputs: ["latents": latents])))
        let plain = try await handler.run(
            task(parameters, LocalPort(inputs: ["latents": unpadded.reshaped([1] + unpadded.shape)])))
        #expect(identical(try #require(padded.output("frames")), try #require(plain.output("frames"))))
    }

    @Test("latents that are not finite or too few are refused for good")
    func refusesLatents() async throws {
        let handler = try VAEDecoderHandler(folder: folder, backend: backend, budget: budget)
        let channels = folder.vae.latentChannels
        var broken = randomTensor([1, 3, channels, 4, 4], seed: 1).floats()
        broken[5] = .nan
        for (latents, code) in [
            (Tensor(broken, shape: [1, 3, channels, 4, 4]), "tensor_not_finite"),
            (randomTensor([1, 2, channels, 4, 4], seed: 1), "tensor_misshapen"),
        ] {
            let parameters = DecodeParameters(dtype: .float32, numFrames: 9)
            let task = try task(parameters, LocalPort(inputs: ["latents": latents]))
            let failure = await #expect(throws: Failure.self) { try await handler.run(task) }
            #expect(failure?.code == code)
            #expect(failure?.retry == .never)
        }
    }

    @Test("a job that exceeds the worker's memory is left to a bigger worker")
    func memory() async throws {
        let handler = try VAEDecoderHandler(folder: folder, backend: backend, budget: MemoryBudget(limit: 1 << 20))
        let latents = randomTensor([1, 3, folder.vae.latentChannels, 4, 4], seed: 1)
        let task = try task(DecodeParameters(dtype: .float32, numFrames: 9), LocalPort(inputs: ["latents": latents]))
        let failure = await #expect(throws: Failure.self) { try await handler.run(task) }
        #expect(failure?.code == "memory_insufficient")
        #expect(failure?.retry == .biggerWorker)
    }
}
