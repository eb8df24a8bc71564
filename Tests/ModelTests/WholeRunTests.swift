import Checkpoint
import Compute
import Diffusion
import Failure
import Foundation
import Model
import Tensor
import TestSupport
import Testing

@Suite("A whole generation")
struct WholeRunTests {
    struct Request: Decodable {
        let guidance_scale: Double
        let seed: UInt64
        let scheduler: String
        let num_inference_steps: Int
        let use_dynamic_cfg: Bool
    }

    struct Run: Sendable, CustomTestStringConvertible {
        let fixture: String
        let name: String
        var testDescription: String { "\(fixture) \(name)" }
    }

    static let runs = Golden.pipelines.flatMap { fixture in
        ["ddim", "dpm", "dynamic", "ddim50"].map { Run(fixture: fixture, name: $0) }
    }

    private func request(_ run: Run) throws -> Request {
        let bytes = try Data(contentsOf: URL(filePath: Golden.path(run.fixture) + "/request.json"))
        let requests = try JSONDecoder().decode([String: Request].self, from: bytes)
        return try #require(requests[run.name])
    }

    /// The latents after every step, from the prompt's token ids and the seed on.
    private func steps(
        _ golden: Golden, _ request: Request, dtype: DType, precision: ProductPrecision = .activation
    ) throws -> [Tensor] {
        let backend = testBackend()
        let encoder = try T5Encoder(folder: golden.folder, backend: backend, dtype: dtype)
        let prompts = try ["negative", "prompt"].map { try encoder.encode(ids: golden("text.\($0).ids").int32s()) }
        let initial = try golden("initial_latents")
        var generator = TorchGenerator(seed: request.seed)
        var latents = generator.randn(shape: [1] + initial.shape).reshaped(initial.shape)
        #expect(identical(latents, initial))
        var sampler = try Sampler(
            kind: try #require(SamplerKind(rawValue: request.scheduler)), config: golden.folder.scheduler,
            numInferenceSteps: request.num_inference_steps)
        let transformer = try Transformer3D(
            folder: golden.folder, backend: backend, dtype: dtype, precision: precision)
        let session = try transformer.session(
            frames: initial.shape[0], height: initial.shape[2], width: initial.shape[3], promptEmbeddings: prompts,
            timesteps: sampler.timesteps)
        var steps: [Tensor] = []
        for (index, timestep) in sampler.timesteps.enumerated() {
            let predictions = try session.predict(latents: latents, timestep: timestep)
            let scale =
                request.use_dynamic_cfg
                ? Guidance.dynamicScale(
                    request.guidance_scale, timestep: timestep, numInferenceSteps: request.num_inference_steps)
                : request.guidance_scale
            latents = try sampler.step(
                modelOutput: try Guidance.classifierFree(uncond: predictions[0], cond: predictions[1], scale: scale),
                latents: latents, stepIndex: index, generator: &generator)
            steps.append(latents)
        }
        return steps
    }

    private func frames(_ golden: Golden, _ latents: Tensor, dtype: DType) throws -> Tensor {
        let decoder = try AutoencoderKLDecoder(folder: golden.folder, backend: testBackend(), dtype: dtype)
        // 1.5 pads the odd latent frame in front.
        let kept = latents.rows((latents.shape[0] - golden.folder.transformer.sampleLatentFrames)..<latents.shape[0])
        var chunks: [Tensor] = []
        try decoder.decode(latents: kept) { chunk throws(Failure) in chunks.append(chunk) }
        return Tensor.concatenated(chunks)
    }

    @Test("latents of every step equal those of the diffusers pipeline", arguments: runs)
    func latents(run: Run) throws {
        let golden = try Golden(run.fixture)
        let request = try request(run)
        let steps = try steps(golden, request, dtype: .float32)
        if run.name == "ddim50" {
            #expect(maxAbsoluteDifference(try #require(steps.last), try golden("ddim50.latents")) <= 1e-3)
            return
        }
        let reference = try golden("\(run.name).steps")
        #expect(steps.count == reference.shape[0])
        for (index, step) in steps.enumerated() {
            let wanted = reference.rows(index..<(index + 1)).reshaped(step.shape)
            #expect(maxAbsoluteDifference(step, wanted) <= 1e-4, "step \(index)")
        }
    }

    @Test(
        "bfloat16 and int8 latents after fifty steps stay close to those of float32",
        arguments: Golden.pipelines, [ProductPrecision.activation, .int8])
    func lowPrecision(fixture: String, precision: ProductPrecision) throws {
        let golden = try Golden(fixture)
        let request = try request(Run(fixture: fixture, name: "ddim50"))
        let latents = try #require(try steps(golden, request, dtype: .bfloat16, precision: precision).last)
        let reference = try golden("ddim50.latents")
        let (a, b) = (latents.floats(), reference.floats())
        var product = 0.0, squaresA = 0.0, squaresB = 0.0, error = 0.0
        for (x, y) in zip(a, b) {
            product += Double(x) * Double(y)
            squaresA += Double(x) * Double(x)
            squaresB += Double(y) * Double(y)
            error += Double(x - y) * Double(x - y)
        }
        let cosine = product / (squaresA * squaresB).squareRoot(), noise = (error / squaresB).squareRoot()
        #expect(cosine > 0.999, "cosine \(cosine), relative error \(noise)")
    }

    @Test("frames equal those of the diffusers pipeline", arguments: Golden.pipelines)
    func frames(fixture: String) throws {
        let golden = try Golden(fixture)
        let steps = try golden("ddim.steps")
        let last = steps.rows((steps.shape[0] - 1)..<steps.shape[0]).reshaped(Array(steps.shape.dropFirst()))
        let decoded = try frames(golden, last, dtype: .float32)
        #expect(maxAbsoluteDifference(decoded, try golden("ddim.frames_float")) <= 1e-4)
        let bytes = decoded.floats().map { ($0 * 255).rounded(.toNearestOrEven) }
        let reference = try golden("ddim.frames").floats()
        #expect(zip(bytes, reference).allSatisfy { abs($0 - $1) <= 1 })
        #expect(zip(bytes, reference).count { $0 != $1 } <= reference.count / 1000)
    }

    @Test("one transformer and one session serve two jobs at once")
    func concurrentJobs() async throws {
        let golden = try Golden("5b")
        let transformer = try Transformer3D(folder: golden.folder, backend: testBackend(), dtype: .float32)
        let latents = try golden("forward.0.latents")
        let prompts = try golden.forwardPrompts()
        let session = try transformer.session(
            frames: 3, height: 6, width: 8, promptEmbeddings: prompts, timesteps: [499, 19])
        let alone = try session.predict(latents: latents, timestep: 499)
        try await withThrowingTaskGroup(of: [Tensor].self) { group in
            for _ in 0..<4 { group.addTask { try session.predict(latents: latents, timestep: 499) } }
            for try await predictions in group {
                #expect(identical(predictions[0], alone[0]) && identical(predictions[1], alone[1]))
            }
        }
    }
}
