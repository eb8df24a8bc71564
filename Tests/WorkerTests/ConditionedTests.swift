import Checkpoint
import Compute
import DenoiserService
import Diffusion
import Failure
import Foundation
import Request
import Stage
import Tensor
import TestSupport
import Testing
import TextEncoderService
import VAEDecoderService
import VAEEncoderService

/// Whole runs that begin with an image or a clip, against those of diffusers (`Tests/Golden/make_fixtures.py conditioned`).
@Suite(.serialized, .timeLimit(.minutes(2)))
struct ConditionedTests {
    private let backend = CPUBackend(threads: 2)
    private let budget = MemoryBudget(limit: nil)

    private func expected() throws -> SafetensorsFile { try SafetensorsFile(path: ConditionedRun.expectedPath) }

    private func kind(_ run: ConditionedRun) throws -> Conditioning { try #require(Conditioning(rawValue: run.kind)) }

    /// Removes the run's model folder when `body` ends.
    private func withFolder(of run: ConditionedRun, _ body: (ModelFolder) async throws -> Void) async throws {
        let path = FileManager.default.temporaryDirectory.appending(path: "zoetrope-\(UUID().uuidString)").path
        defer { try? FileManager.default.removeItem(atPath: path) }
        try run.makeModel(at: path)
        try await body(try ModelFolder(path: path))
    }

    private func task(_ parameters: some Encodable, _ inputs: [String: Tensor]) throws -> StageTask {
        StageTask(
            name: "job/task", attempt: 1, parameters: try CanonicalJSON.encode(parameters),
            port: LocalPort(inputs: inputs), progress: TaskProgress())
    }

    private func condition(
        _ folder: ModelFolder, _ run: ConditionedRun, pixels: Tensor, traits: ModelTraits, dtype: Precision
    ) async throws -> Tensor {
        let handler = try VAEEncoderHandler(folder: folder, backend: backend, budget: budget)
        let parameters = ConditionParameters(
            dtype: dtype, isSampled: try kind(run).isSampled, seed: run.seed,
            scale: try kind(run) == .image ? traits.imageLatentScale : traits.latentScale)
        return try #require(
            try await handler.run(task(parameters, ["pixels": pixels])).output("condition_latents"))
    }

    private func denoise(
        _ folder: ModelFolder, _ run: ConditionedRun, pixels: Tensor, dtype: Precision = .float32
    ) async throws -> (steps: Tensor, latents: Tensor) {
        let traits = try ModelTraits(folder: folder, digest: "digest")
        #expect(traits.possibleConditioning.contains(try kind(run)))
        let text = try TextEncoderHandler(folder: folder, backend: backend, budget: budget)
        let encoded = try await text.run(
            task(EncodeParameters(prompt: run.prompt, negativePrompt: run.negativePrompt, dtype: dtype), [:]))
        var inputs = Dictionary(uniqueKeysWithValues: encoded.outputs.map { ($0.name, $0.tensor) })
        inputs["condition_latents"] = try await condition(folder, run, pixels: pixels, traits: traits, dtype: dtype)
        let parameters = DenoiseParameters(
            width: run.width, height: run.height, numFrames: run.numFrames, numInferenceSteps: run.numInferenceSteps,
            guidanceScale: run.guidanceScale, useDynamicCFG: run.useDynamicCFG,
            scheduler: try #require(SamplerKind(rawValue: run.scheduler)),
            seed: run.seed, dtype: dtype, keepStepLatents: true, conditioning: try kind(run), strength: run.strength)
        let result = try await DenoiserHandler(folder: folder, backend: backend, budget: budget)
            .run(task(parameters, inputs))
        return (try #require(result.output("latents_steps")), try #require(result.output("latents")))
    }

    @Test(
        "latents after every step and the frames equal those of diffusers",
        arguments: ["image", "image-dpm", "image-1.5", "video", "video-dpm", "video-whole", "control"])
    func parity(key: String) async throws {
        let run = try #require(try ConditionedRun.named(key)), expected = try expected()
        let pixels = try expected.tensor("\(key).pixels"), reference = try expected.tensor("\(key).steps")
        try await withFolder(of: run) { folder in
            let (steps, latents) = try await denoise(folder, run, pixels: pixels)
            #expect(steps.shape == [reference.shape[0], 1] + reference.shape.dropFirst())
            #expect(maxAbsoluteDifference(steps.reshaped(reference.shape), reference) <= 2e-4)
            let decoder = try VAEDecoderHandler(folder: folder, backend: backend, budget: budget)
            let decoded = try await decoder.run(
                task(DecodeParameters(dtype: .float32, numFrames: run.numFrames), ["latents": latents]))
            let frames = try #require(decoded.output("frames")), wanted = try expected.tensor("\(key).frames")
            #expect(frames.shape == wanted.shape)
            let found = frames.withUnsafeBytes { Array($0) }, bytes = wanted.withUnsafeBytes { Array($0) }
            #expect(zip(found, bytes).allSatisfy { abs(Int($0) - Int($1)) <= 1 })
        }
    }

    @Test(
        "in bfloat16 the latents stay within five per cent of the reference", arguments: ["image", "video", "control"])
    func bfloat16(key: String) async throws {
        let run = try #require(try ConditionedRun.named(key)), expected = try expected()
        let reference = try expected.tensor("\(key).steps").slices.last?.floats() ?? []
        try await withFolder(of: run) { folder in
            let found = try await denoise(
                folder, run, pixels: try expected.tensor("\(key).pixels"), dtype: .bfloat16
            ).latents.floats()
            let error = zip(found, reference).reduce(0.0) { $0 + Double(($1.0 - $1.1) * ($1.0 - $1.1)) }
            let size = reference.reduce(0.0) { $0 + Double($1 * $1) }
            #expect((error / size).squareRoot() <= 0.05)
        }
    }

    @Test("a job whose beginning the model cannot read is refused before anything is computed")
    func mismatch() async throws {
        let run = try #require(try ConditionedRun.named("image"))
        try await withFolder(of: run) { folder in
            let handler = try DenoiserHandler(folder: folder, backend: backend, budget: budget)
            let parameters = DenoiseParameters(
                width: run.width, height: run.height, numFrames: run.numFrames, numInferenceSteps: 10,
                guidanceScale: 1, useDynamicCFG: false, scheduler: .ddim, seed: 1, dtype: .float32)
            let config = folder.transformer
            let features = Tensor(zeros: [1, config.maxTextSeqLength, config.textEmbedDim])
            let failure = await #expect(throws: Failure.self) {
                try await handler.run(task(parameters, ["prompt_embeds": features]))
            }
            #expect(failure?.code == "condition_mismatch")
        }
    }

    @Test("pixels of another kind are refused by name")
    func wrongPixels() async throws {
        let run = try #require(try ConditionedRun.named("image"))
        try await withFolder(of: run) { folder in
            let handler = try VAEEncoderHandler(folder: folder, backend: backend, budget: budget)
            let parameters = ConditionParameters(dtype: .float32, isSampled: true, seed: 1, scale: 1)
            let failure = await #expect(throws: Failure.self) {
                try await handler.run(task(parameters, ["pixels": Tensor(zeros: [1, 48, 64, 3])]))
            }
            #expect(failure?.field == "pixels")
        }
    }
}
