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

/// Whole runs with LoRA adapters, against `load_lora_weights` and `set_adapters` of diffusers
/// (`Tests/Golden/make_lora_fixtures.py`).
@Suite("A denoiser with adapters", .serialized, .timeLimit(.minutes(3)))
struct AdapterTests {
    struct Run: Decodable {
        let model: String
        let scheduler: String
        let loras: [String: Double]
    }

    private static let golden = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
        .appending(path: "Golden").path

    private let backend = CPUBackend(threads: 2)

    private func runs() throws -> [String: Run] {
        try JSONDecoder().decode(
            [String: Run].self, from: Data(contentsOf: URL(filePath: "\(Self.golden)/loras/runs.json")))
    }

    private func handler(
        _ model: String, adapters: String? = nil, memory: Int? = nil
    ) throws -> DenoiserHandler {
        try DenoiserHandler(
            folder: ModelFolder(path: "\(Self.golden)/\(model)"), backend: backend, budget: MemoryBudget(limit: memory),
            adapters: adapters ?? "\(Self.golden)/loras/\(model)")
    }

    private func uses(_ model: String, _ loras: [(String, Double)]) throws -> [AdapterUse] {
        try loras.map { name, weight in
            let file = "\(Self.golden)/loras/\(model)/\(name).safetensors"
            return AdapterUse(name: name, weight: weight, digest: try AdapterWeights(path: file).digest())
        }
    }

    private func parameters(
        _ model: String, _ loras: [AdapterUse]?, scheduler: SamplerKind = .ddim, dtype: Precision = .float32
    ) throws -> DenoiseParameters {
        let config = try ModelFolder(path: "\(Self.golden)/\(model)").transformer
        return DenoiseParameters(
            width: config.sampleWidth * 8, height: config.sampleHeight * 8, numFrames: config.sampleFrames,
            numInferenceSteps: 10, guidanceScale: 6, useDynamicCFG: false, scheduler: scheduler, seed: 42, dtype: dtype,
            keepStepLatents: true, loras: loras)
    }

    private func task(
        _ model: String, _ parameters: DenoiseParameters, state: Tensor? = nil
    ) throws -> (StageTask, LocalPort) {
        let texts = try SafetensorsFile(path: "\(Self.golden)/\(model)/expected.safetensors")
        var inputs: [String: Tensor] = [:]
        for (input, text) in [("negative_prompt_embeds", "negative"), ("prompt_embeds", "prompt")] {
            let features = try texts.tensor("text.\(text).embeddings")
            inputs[input] = features.reshaped([1] + features.shape)
        }
        inputs["state"] = state
        let port = LocalPort(inputs: inputs)
        return (
            StageTask(
                name: "job/denoise", attempt: 1, parameters: try CanonicalJSON.encode(parameters), port: port,
                progress: TaskProgress()), port
        )
    }

    private func latents(
        _ handler: DenoiserHandler, _ model: String, _ parameters: DenoiseParameters
    ) async throws -> Tensor {
        try #require(try await handler.run(task(model, parameters).0).output("latents_steps"))
    }

    @Test(
        "the latents after every step are those of diffusers with the same adapters and weights",
        arguments: ["2b.none", "2b.one", "2b.two", "5b.one", "5b.two", "1.5.one", "1.5.two"])
    func parity(key: String) async throws {
        let run = try #require(try runs()[key])
        let expected = try SafetensorsFile(path: "\(Self.golden)/loras/expected.safetensors")
        let reference = try expected.tensor("\(key).steps")
        let scheduler = try #require(SamplerKind(rawValue: run.scheduler))
        let loras = try uses(run.model, run.loras.sorted { $0.key < $1.key })
        let found = try await latents(
            handler(run.model), run.model, parameters(run.model, loras.isEmpty ? nil : loras, scheduler: scheduler))
        #expect(maxAbsoluteDifference(found.reshaped(reference.shape), reference) <= 2e-4)
        guard !run.loras.isEmpty else { return }
        let without = try await latents(handler(run.model), run.model, parameters(run.model, nil, scheduler: scheduler))
        #expect(maxAbsoluteDifference(without.reshaped(reference.shape), reference) > 0.1, "the adapters do nothing")
    }

    @Test("every format of one adapter makes the same bits")
    func formats() async throws {
        let handler = try handler("2b")
        for (name, others) in [
            ("style", [("style-kohya", 1.0)]), ("motion", [("motion-kohya", 1), ("motion-sat", 2)]),
        ] {
            let expected = try await latents(handler, "2b", parameters("2b", uses("2b", [(name, 1)])))
            for (other, weight) in others {
                let found = try await latents(handler, "2b", parameters("2b", uses("2b", [(other, weight)])))
                #expect(identical(found, expected), "\(other)")
            }
        }
    }

    @Test(
        "with the adapters off again, every precision makes the bits of a denoiser that never had them",
        arguments: [Precision.float32, .bfloat16, .int8], [true, false])
    func switchedOff(dtype: Precision, inPlace: Bool) async throws {
        let fresh = try await latents(handler("2b"), "2b", parameters("2b", nil, dtype: dtype))
        // With hardly any memory the one network is merged in place, otherwise copies are kept beside it.
        let memory = inPlace ? try smallestBudget(parameters("2b", nil, dtype: dtype)) : nil
        let used = try handler("2b", memory: memory)
        let first = try await latents(used, "2b", parameters("2b", nil, dtype: dtype))
        #expect(identical(first, fresh))
        let style = try uses("2b", [("style", 1)]), motion = try uses("2b", [("motion", 0.5)])
        let styled = try await latents(used, "2b", parameters("2b", style, dtype: dtype))
        #expect(!identical(styled, fresh))
        #expect(used.warm.count == (inPlace ? 1 : 2))
        let moved = try await latents(used, "2b", parameters("2b", motion, dtype: dtype))
        #expect(!identical(moved, styled) && !identical(moved, fresh))
        #expect(identical(try await latents(used, "2b", parameters("2b", nil, dtype: dtype)), fresh))
        #expect(identical(try await latents(used, "2b", parameters("2b", style, dtype: dtype)), styled))
        let other = try await latents(handler("2b"), "2b", parameters("2b", style, dtype: dtype))
        #expect(identical(other, styled), "the way there must not matter")
    }

    /// Just what a job without adapters needs: weights, activations of two prompts, modulations of ten steps.
    private func smallestBudget(_ parameters: DenoiseParameters) throws -> Int {
        let folder = try ModelFolder(path: "\(Self.golden)/2b"), config = folder.transformer
        let dtype = parameters.dtype.dtype, frames = (parameters.numFrames - 1) / 4 + 1
        let tokens = frames * parameters.height * parameters.width / 256 + config.maxTextSeqLength
        return try folder.weightBytes(.transformer, dtype: dtype) + 2 * tokens * config.innerDim * 12 * dtype.byteCount
            + 12 * config.numLayers * config.innerDim * 10 * 4
    }

    @Test("what is warm says which adapters at which weights the network has")
    func warm() async throws {
        let handler = try handler("2b")
        #expect(handler.warm.isEmpty)
        let plain = try parameters("2b", nil), half = try parameters("2b", uses("2b", [("style", 0.5)]))
        _ = try await latents(handler, "2b", plain)
        #expect(handler.warm == ["float32"] && plain.affinity == "float32")
        _ = try await latents(handler, "2b", half)
        #expect(handler.warm == ["float32", half.affinity].sorted())
        let whole = try parameters("2b", uses("2b", [("style", 1)])),
            none = try parameters("2b", uses("2b", [("style", 0)]))
        #expect(whole.affinity != half.affinity && none.affinity == "float32")
    }

    @Test("notes tell rank, scale and weight")
    func notes() async throws {
        let parameters = try parameters("2b", uses("2b", [("style", 0.5)]))
        let result = try await handler("2b").run(task("2b", parameters).0)
        #expect(result.notes == ["lora style: rank 4, scale 2.0, weight 0.5."])
    }

    @Test("a state that other adapters made is refused, whether they changed in file or in weight")
    func state() async throws {
        let handler = try handler("2b")
        var draft = try parameters("2b", uses("2b", [("style", 1)]))
        draft.stepsUntil = 4
        let whole = try await latents(handler, "2b", parameters("2b", uses("2b", [("style", 1)])))
        let state = try #require(try await handler.run(task("2b", draft).0).output("state"))
        let rest = try await handler.run(task("2b", parameters("2b", uses("2b", [("style", 1)])), state: state).0)
        #expect(identical(try #require(rest.output("latents_steps")), whole))
        for others in [nil, try uses("2b", [("style", 0.9)]), try uses("2b", [("motion", 1)])] as [[AdapterUse]?] {
            let failure = await #expect(throws: Failure.self) {
                try await handler.run(task("2b", parameters("2b", others), state: state).0)
            }
            #expect(failure?.code == "checkpoint_unusable")
        }
    }

    @Test("a job's adapter must be there, with the contents that it was submitted with")
    func refusals() async throws {
        func failure(_ handler: DenoiserHandler, _ use: AdapterUse) async throws -> Failure? {
            await #expect(throws: Failure.self) { try await handler.run(task("2b", parameters("2b", [use])).0) }
        }
        let there = try handler("2b")
        let digest = try uses("2b", [("style", 1)])[0].digest
        let changed = try await failure(there, AdapterUse(name: "motion", digest: digest))
        #expect(changed?.code == "adapter_changed" && changed?.retry == .otherWorker)
        let absent = try await failure(there, AdapterUse(name: "nothing", digest: digest))
        #expect(absent?.code == "adapter_not_found" && absent?.retry == .otherWorker)
        #expect(
            try await failure(there, AdapterUse(name: "../2b/style", digest: digest))?.code == "adapter_name_invalid")
        let folderless = try DenoiserHandler(
            folder: ModelFolder(path: "\(Self.golden)/2b"), backend: backend, budget: MemoryBudget(limit: nil))
        #expect(
            try await failure(folderless, AdapterUse(name: "style", digest: digest))?.code == "adapters_unavailable")
        #expect(throws: Failure.self) { try handler("2b", adapters: "/nowhere") }
        let other = try handler("5b", adapters: "\(Self.golden)/loras/2b")
        let wrong = await #expect(throws: Failure.self) {
            try await other.run(task("5b", parameters("5b", uses("2b", [("motion", 1)]))).0)
        }
        #expect(wrong?.code == "adapter_shape_mismatch")
    }
}
