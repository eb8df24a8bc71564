import Failure
import Request
import Tensor
import Testing
import Wire

@Suite("Requests that begin with a picture or a clip")
struct ConditioningTests {
    private func traits(_ conditioning: Conditioning, patchFrames: Int = 1) throws -> ModelTraits {
        var traits = try ModelFixtures.demo()
        traits.conditioning = conditioning
        traits.latentFramesPerPatch = patchFrames
        return traits
    }

    private func draft(_ change: (inout RequestDraft) -> Void) -> RequestDraft {
        var draft = RequestDraft()
        draft.prompt = "a boat"
        draft.seed = 3
        change(&draft)
        return draft
    }

    private func code(_ draft: RequestDraft, _ traits: ModelTraits, frames: Int? = nil) -> String? {
        do throws(Failure) {
            _ = try draft.resolved(for: traits, sourceFrames: frames)
            return nil
        } catch {
            return error.code
        }
    }

    @Test("every model takes what it begins with and nothing else")
    func kinds() throws {
        let image = draft { $0.image = "" }, video = draft { $0.video = "" }, control = draft { $0.controlVideo = "" }
        let text = draft { _ in }
        let expected: [(Conditioning, Int, [String?])] = [
            (.text, 1, [nil, "source_unsupported", nil, "source_unsupported"]),
            (.text, 2, [nil, "source_unsupported", "source_unsupported", "source_unsupported"]),
            (.image, 1, ["source_missing", nil, "source_unsupported", "source_unsupported"]),
            (.control, 1, ["source_missing", "source_unsupported", "source_unsupported", nil]),
        ]
        for (conditioning, patch, codes) in expected {
            let traits = try traits(conditioning, patchFrames: patch)
            #expect([text, image, video, control].map { code($0, traits, frames: nil) } == codes)
        }
    }

    @Test("a file that came with the request is what the model begins with, or what its field says")
    func attachments() throws {
        func attached(_ field: String) -> RequestDraft {
            draft { $0.attachment = AttachedFile(field: field, bytes: [1]) }
        }
        for (conditioning, found) in [(Conditioning.text, Conditioning.video), (.image, .image), (.control, .control)] {
            let request = try attached("input_reference").resolved(for: try traits(conditioning))
            #expect(request.conditioning == found)
        }
        #expect(code(attached("image"), try traits(.text)) == "source_unsupported")
        #expect(
            code(
                draft {
                    $0.image = ""
                    $0.attachment = AttachedFile(field: "video", bytes: [1])
                }, try traits(.text)) == "fields_conflict")
    }

    @Test("a clip gives as many frames as the model can make of it, and says what it left out")
    func clipLength() throws {
        let traits = try traits(.text), video = draft { $0.video = "" }
        #expect(try video.resolved(for: traits, sourceFrames: 17).numFrames == 17)
        #expect(try video.resolved(for: traits, sourceFrames: 17).notes == [])
        let longer = try video.resolved(for: traits, sourceFrames: 30)
        #expect(longer.numFrames == 25)
        #expect(longer.notes == ["source_trimmed: the first 25 of 30 frames were taken"])
        #expect(try video.resolved(for: traits, sourceFrames: 3).numFrames == 1)
        let asked = draft {
            $0.video = ""
            $0.numFrames = 33
        }
        #expect(code(asked, traits, frames: 32) == "source_too_short")
        #expect(code(asked, traits, frames: 33) == nil)
    }

    @Test("settings of one beginning are refused with another, and their ranges are held")
    func settings() throws {
        let text = try traits(.text), image = try traits(.image)
        #expect(code(draft { $0.strength = 0.5 }, text) == "fields_conflict")
        #expect(code(draft { $0.fit = "cover" }, text) == "fields_conflict")
        #expect(code(draft { $0.imageLatentScale = 1 }, text) == "fields_conflict")
        #expect(code(draft { $0.sourceFramesPerSecond = 8 }, text) == "source_fps_invalid")
        func video(_ strength: Double) -> RequestDraft {
            draft {
                $0.video = ""
                $0.strength = strength
                $0.numInferenceSteps = 10
            }
        }
        for wrong in [0, -0.1, 1.01, 0.09, .nan] { #expect(code(video(wrong), text) == "strength_out_of_range") }
        #expect(try video(0.1).resolved(for: text).strength == 0.1)
        #expect(try draft { $0.video = "" }.resolved(for: text).strength == 0.8)
        func picture(_ change: (inout RequestDraft) -> Void) -> RequestDraft {
            draft {
                $0.image = ""
                change(&$0)
            }
        }
        #expect(code(picture { $0.imageLatentScale = 0 }, image) == "image_latent_scale_out_of_range")
        #expect(code(picture { $0.fit = "squeeze" }, image) == "fit_unknown")
        #expect(code(picture { $0.strength = 0.5 }, image) == "fields_conflict")
        let resolved = try picture { $0.fit = "contain" }.resolved(for: image)
        #expect(resolved.fit == .contain)
        #expect(resolved.imageLatentScale == image.imageLatentScale)
    }

    @Test("the pixels go to the encoder and its latents to the denoiser")
    func tasks() throws {
        let traits = try traits(.image)
        let request = try draft { $0.image = "" }.resolved(for: traits)
        let digest = try #require(Digest(bytes: Array(repeating: 7, count: 32)))
        func pixels(_ frames: Int, dtype: DType = .uint8) -> TensorRef {
            TensorRef(digest: digest, dtype: dtype, shape: [frames, 96, 96, 3], locations: [])
        }
        let submit = try JobGraph.submit(for: request, traits: traits, pixels: pixels(1))
        #expect(submit.tasks.map(\.name) == ["encode", "condition", "denoise", "decode", "mux"])
        let condition = submit.tasks[1], denoise = submit.tasks[2]
        #expect(condition.stage == "vae-encoder" && condition.model == traits.digest && condition.durableOutputs)
        #expect(condition.inputs == [TaskInput(name: "pixels", source: .blob(pixels(1)))])
        #expect(
            try CanonicalJSON.decode(ConditionParameters.self, from: condition.parameters)
                == ConditionParameters(dtype: .float32, isSampled: true, seed: 3, scale: traits.imageLatentScale))
        #expect(denoise.inputs.contains { $0.name == "condition_latents" })
        #expect(
            try CanonicalJSON.decode(DenoiseParameters.self, from: denoise.parameters).conditioning == .image)
        for wrong in [nil, pixels(2), pixels(1, dtype: .float32)] {
            #expect {
                try JobGraph.submit(for: request, traits: traits, pixels: wrong)
            } throws: {
                ($0 as? Failure)?.code == "pixels_misshapen"
            }
        }
        let plain = try draft { _ in }.resolved(for: try self.traits(.text))
        #expect(throws: Failure.self) { try JobGraph.submit(for: plain, traits: traits, pixels: pixels(1)) }
    }

    @Test("the same request with another picture is another request")
    func identity() throws {
        let traits = try traits(.image)
        let request = try draft { $0.image = "" }.resolved(for: traits)
        let digests = try [1, 2].map { byte in
            let digest = try #require(Digest(bytes: Array(repeating: UInt8(byte), count: 32)))
            return try JobGraph.submit(
                for: request, traits: traits,
                pixels: TensorRef(digest: digest, dtype: .uint8, shape: [1, 96, 96, 3], locations: [])
            ).requestDigest
        }
        #expect(digests[0] != digests[1])
    }

    @Test("the number of decoders is checked and reaches the decoder")
    func decodeWorkers() throws {
        let traits = try traits(.text)
        for wrong in [0, 17, -1] {
            #expect(code(draft { $0.decodeWorkers = wrong }, traits) == "decode_workers_out_of_range")
        }
        for asked in [nil, 1, 16] {
            let request = try draft { $0.decodeWorkers = asked }.resolved(for: traits)
            let decode = try JobGraph.submit(for: request, traits: traits).tasks[2]
            #expect(try CanonicalJSON.decode(DecodeParameters.self, from: decode.parameters).workers == asked)
        }
    }

    @Test("a draft stops before its last step, and another job goes on from its state")
    func drafts() throws {
        let traits = try traits(.text)
        func draft(_ steps: Int, strength: Double? = nil) -> RequestDraft {
            self.draft {
                $0.stepsUntil = steps
                $0.numInferenceSteps = 10
                $0.strength = strength
                if strength != nil { $0.video = "" }
            }
        }
        for wrong in [draft(0), draft(10), draft(5, strength: 0.5)] {
            #expect(code(wrong, traits) == "steps_until_out_of_range")
        }
        let request = try draft(4).resolved(for: traits)
        let first = try JobGraph.submit(for: request, traits: traits)
        #expect(
            try CanonicalJSON.decode(DenoiseParameters.self, from: first.tasks[1].parameters).stepsUntil == 4)
        let digest = try #require(Digest(bytes: Array(repeating: 7, count: 32)))
        let ref = TensorRef(digest: digest, dtype: .uint8, shape: [3], locations: [])
        var outputs = ["denoise.state": ref, "encode.prompt_embeds": ref, "encode.negative_prompt_embeds": ref]
        let rest = try JobGraph.continued(request, outputs: outputs, of: "video_1", traits: traits)
        #expect(rest.tasks.map(\.name) == ["denoise", "decode", "mux"])
        #expect(rest.tasks[0].inputs.map(\.name) == ["prompt_embeds", "negative_prompt_embeds", "state"])
        #expect(
            try CanonicalJSON.decode(DenoiseParameters.self, from: rest.tasks[0].parameters).stepsUntil == nil)
        #expect(rest.specification.contains("continued: from step 4 of video_1"))
        #expect(rest.requestDigest != first.requestDigest)
        outputs["encode.prompt_embeds"] = nil
        let whole = try self.draft { _ in }.resolved(for: traits)
        for (request, outputs) in [(request, outputs), (whole, ["denoise.state": ref])] {
            #expect {
                try JobGraph.continued(request, outputs: outputs, of: "video_1", traits: traits)
            } throws: {
                ($0 as? Failure)?.code == "nothing_to_continue"
            }
        }
    }
}
