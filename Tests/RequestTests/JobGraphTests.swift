import Diffusion
import Failure
import Request
import Tensor
import Testing
import Wire

@Suite("A request becomes the tasks that the broker hands out")
struct JobGraphTests {
    private func request(_ change: (inout RequestDraft) -> Void = { _ in }) throws -> GenerationRequest {
        var draft = RequestDraft()
        draft.prompt = "a sunset over orange hills"
        draft.seed = 3
        change(&draft)
        return try draft.resolved(for: try ModelFixtures.demo())
    }

    private func reference(_ dtype: DType, _ shape: [Int]) throws -> TensorRef {
        let digest = try #require(Digest(bytes: Array(repeating: 7, count: 32)))
        return TensorRef(digest: digest, dtype: dtype, shape: shape, locations: [])
    }

    @Test("a video is encode, denoise, decode and mux, each fed by the one before")
    func video() throws {
        let traits = try ModelFixtures.demo()
        let submit = try JobGraph.submit(for: try request(), traits: traits, idempotencyKey: "k")
        #expect(submit.idempotencyKey == "k")
        #expect(submit.tasks.map(\.name) == ["encode", "denoise", "decode", "mux"])
        #expect(submit.tasks.map(\.stage) == ["text-encoder", "denoiser", "vae-decoder", "video-muxer"])
        #expect(submit.tasks.map(\.model) == [traits.digest, traits.digest, traits.digest, ""])
        #expect(submit.tasks.map(\.durableOutputs) == [true, true, false, true])
        #expect(submit.tasks[0].inputs == [])
        #expect(submit.tasks[1].inputs.map(\.name) == ["prompt_embeds", "negative_prompt_embeds"])
        let latents = TaskInput(name: "latents", source: .task(name: "denoise", output: "latents"))
        #expect(submit.tasks[2].inputs == [latents])
        #expect(submit.tasks[3].inputs == [TaskInput(name: "frames", source: .task(name: "decode", output: "frames"))])
    }

    @Test("parameters reach each stage as they were asked for")
    func parameters() throws {
        let asked = try request {
            $0.negativePrompt = "fog"
            $0.keepFloatFrames = true
            $0.keepStepLatents = true
            $0.container = "webm"
        }
        let submit = try JobGraph.submit(for: asked, traits: try ModelFixtures.demo())
        let encode = try CanonicalJSON.decode(EncodeParameters.self, from: submit.tasks[0].parameters)
        #expect(encode == EncodeParameters(prompt: asked.prompt, negativePrompt: "fog", dtype: .float32))
        let denoise = try CanonicalJSON.decode(DenoiseParameters.self, from: submit.tasks[1].parameters)
        #expect(
            denoise
                == DenoiseParameters(
                    width: 96, height: 96, numFrames: 17, numInferenceSteps: 25, guidanceScale: 4, useDynamicCFG: false,
                    scheduler: .ddim, seed: 3, dtype: .float32, keepStepLatents: true))
        let decode = try CanonicalJSON.decode(DecodeParameters.self, from: submit.tasks[2].parameters)
        #expect(
            decode == DecodeParameters(dtype: .float32, numFrames: 17, keepFloatFrames: true, pixels: 96 * 96))
        #expect(submit.tasks[2].durableOutputs, "float frames can be fetched only from the store")
        let mux = try CanonicalJSON.decode(MuxParameters.self, from: submit.tasks[3].parameters)
        #expect(mux.request == asked)
        #expect(mux.container == .webm && mux.request.model == "cogvideox-demo")
        #expect(try CanonicalJSON.decode(GenerationRequest.self, from: submit.specification) == asked)
    }

    @Test("without guidance there are no negative embeddings to make or to read")
    func noGuidance() throws {
        let submit = try JobGraph.submit(for: try request { $0.guidanceScale = 1 }, traits: try ModelFixtures.demo())
        let encode = try CanonicalJSON.decode(EncodeParameters.self, from: submit.tasks[0].parameters)
        #expect(encode.negativePrompt == nil)
        #expect(submit.tasks[1].inputs.map(\.name) == ["prompt_embeds"])
    }

    @Test("the graph ends at the latents or at durable frames when those are wanted")
    func outputTypes() throws {
        let traits = try ModelFixtures.demo()
        let latent = try JobGraph.submit(for: try request { $0.outputType = "latent" }, traits: traits)
        #expect(latent.tasks.map(\.name) == ["encode", "denoise"])
        let frames = try JobGraph.submit(for: try request { $0.outputType = "frames" }, traits: traits)
        #expect(frames.tasks.map(\.name) == ["encode", "denoise", "decode"])
        #expect(frames.tasks[2].durableOutputs)
    }

    @Test("an upsampled prompt feeds the text encoder; without an upsampler the job says that the prompt is unchanged")
    func upsampling() throws {
        let traits = try ModelFixtures.demo()
        let asked = try request { $0.upsamplePrompt = true }
        let with = try JobGraph.submit(for: asked, traits: traits)
        #expect(with.tasks.map(\.name) == ["upsample", "encode", "denoise", "decode", "mux"])
        #expect(with.tasks[1].inputs == [TaskInput(name: "prompt", source: .task(name: "upsample", output: "prompt"))])
        let without = try JobGraph.submit(for: asked, traits: traits, upsamplerAvailable: false)
        #expect(without.tasks.map(\.name) == ["encode", "denoise", "decode", "mux"])
        #expect(without.tasks[0].inputs.isEmpty)
        let recorded = try CanonicalJSON.decode(GenerationRequest.self, from: without.specification)
        #expect(recorded.notes.contains { $0.hasPrefix("prompt_unchanged") })
        #expect(with.requestDigest == without.requestDigest, "a retried request is the same request")
    }

    @Test("initial latents must have the reference's layout and the request's shape")
    func initialLatents() throws {
        let traits = try ModelFixtures.demo()
        let asked = try request { $0.initialLatents = "uploaded" }
        let good = try reference(.float32, [1, 5, 8, 12, 12])
        let submit = try JobGraph.submit(for: asked, traits: traits, initialLatents: good)
        #expect(submit.tasks[1].inputs.last == TaskInput(name: "init_latents", source: .blob(good)))
        for wrong in [
            try reference(.float32, [1, 4, 8, 12, 12]), try reference(.bfloat16, [1, 5, 8, 12, 12]),
            try reference(.float32, [5, 8, 12, 12]),
        ] {
            let found = #expect(throws: Failure.self) {
                try JobGraph.submit(for: asked, traits: traits, initialLatents: wrong)
            }
            #expect(found?.code == "init_latents_misshapen")
            #expect(found?.remedy?.contains("[1, 5, 8, 12, 12]") == true)
        }
        #expect(throws: Failure.self) { try JobGraph.submit(for: asked, traits: traits) }
        #expect(throws: Failure.self) { try JobGraph.submit(for: try request(), traits: traits, initialLatents: good) }
    }

    @Test("equal requests have equal digests, a drawn seed does not count, and every choice does")
    func digests() throws {
        func digest(_ change: (inout RequestDraft) -> Void = { _ in }) throws -> Digest {
            try JobGraph.submit(for: try request(change), traits: try ModelFixtures.demo()).requestDigest
        }
        let base = try digest()
        #expect(try digest() == base)
        #expect(try digest { $0.seed = nil } == digest { $0.seed = nil })
        #expect(try digest { $0.seed = nil } != digest { $0.seed = 0 })
        let changes: [(inout RequestDraft) -> Void] = [
            { $0.prompt = "another" }, { $0.seed = 4 }, { $0.width = 64 }, { $0.container = "gif" },
            { $0.guidanceScale = 5 }, { $0.negativePrompt = "fog" }, { $0.numInferenceSteps = 20 },
        ]
        #expect(try Set(changes.map { try digest($0) } + [base]).count == changes.count + 1)
    }

    @Test("the longest prompts still fit a bus message, and ones that grow beyond it as JSON are refused")
    func messageSize() throws {
        let traits = try ModelFixtures.demo()
        let long = try JobGraph.submit(
            for: try request {
                $0.prompt = String(repeating: "x", count: 8192)
                $0.negativePrompt = String(repeating: "y", count: 6000)
            }, traits: traits)
        #expect(long.tasks.allSatisfy { $0.parameters.utf8.count <= Limits.parameterBytes })
        let growing = try request { $0.prompt = "x" + String(repeating: "\u{1}", count: 8000) }
        let found = #expect(throws: Failure.self) { try JobGraph.submit(for: growing, traits: traits) }
        #expect(found?.code == "prompt_too_long")
    }

    @Test("an idempotency key beyond its limit is refused")
    func longKey() throws {
        let found = #expect(throws: Failure.self) {
            try JobGraph.submit(
                for: try request(), traits: try ModelFixtures.demo(), idempotencyKey: String(repeating: "k", count: 129)
            )
        }
        #expect(found?.code == "idempotency_key_invalid")
    }
}
