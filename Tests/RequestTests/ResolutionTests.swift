import Diffusion
import Failure
import Request
import Testing

@Suite("A draft becomes a complete request or a clear refusal")
struct ResolutionTests {
    private func draft(_ change: (inout RequestDraft) -> Void = { _ in }) -> RequestDraft {
        var draft = RequestDraft()
        draft.prompt = "a sunset over orange hills"
        change(&draft)
        return draft
    }

    private func refusal(_ traits: ModelTraits, _ change: (inout RequestDraft) -> Void) -> Failure? {
        let found = #expect(throws: Failure.self) { try draft(change).resolved(for: traits) }
        #expect(found?.field != nil, "every refusal names its field")
        #expect(found?.remedy != nil, "every refusal says what to do")
        return found
    }

    @Test("a prompt alone takes every default from the model")
    func defaults() throws {
        let request = try draft().resolved(for: try ModelFixtures.demo(), randomSeed: { 77 })
        #expect(
            request
                == GenerationRequest(
                    model: "cogvideox-demo", prompt: "a sunset over orange hills", width: 96, height: 96, numFrames: 17,
                    framesPerSecond: 8, numInferenceSteps: 25, guidanceScale: 4, scheduler: .ddim, seed: 77,
                    seedIsRandom: true))
        let real = try draft().resolved(for: try ModelFixtures.cogVideoX5b())
        #expect(real.scheduler == .dpm && real.numFrames == 49 && real.width == 720 && !real.useDynamicCFG)
        #expect(real.seed <= UInt64(UInt32.max))
    }

    @Test("what is given is taken as it is")
    func given() throws {
        let request = try draft {
            $0.width = 64
            $0.height = 128
            $0.numFrames = 9
            $0.seed = 5
            $0.scheduler = "dpm"
            $0.dtype = "bfloat16"
            $0.container = "mkv"
            $0.outputType = "frames"
            $0.guidanceScale = 1
            $0.numInferenceSteps = 4
        }.resolved(for: try ModelFixtures.demo())
        #expect(request.width == 64 && request.height == 128 && request.numFrames == 9)
        #expect(request.seed == 5 && !request.seedIsRandom && !request.usesGuidance)
        #expect(request.scheduler == .dpm && request.dtype == .bfloat16 && request.container == .mkv)
        #expect(request.outputType == .frames && request.numInferenceSteps == 4)
    }

    @Test("size is read as width x height")
    func size() throws {
        let request = try draft { $0.size = "128x64" }.resolved(for: try ModelFixtures.demo())
        #expect(request.width == 128 && request.height == 64)
        let traits = try ModelFixtures.demo()
        #expect(refusal(traits) { $0.size = "128" }?.code == "size_invalid")
        #expect(refusal(traits) { $0.size = "axb" }?.code == "size_invalid")
        #expect(refusal(traits) { $0.size = "100x64" }?.code == "size_not_multiple_of_16")
        let conflict = refusal(traits) {
            $0.size = "64x64"
            $0.width = 64
        }
        #expect(conflict?.code == "fields_conflict")
    }

    @Test(
        "seconds leads to the smallest frame count that lasts as long, and says so",
        arguments: [(6, 8, 49), (1, 8, 9), (2, 8, 17), (1, 9, 9), (5, 16, 81), (1, 1, 1)])
    func seconds(seconds: Int, rate: Int, frames: Int) throws {
        let request = try draft {
            $0.seconds = seconds
            $0.framesPerSecond = rate
        }.resolved(for: try ModelFixtures.cogVideoX2b())
        #expect(request.numFrames == frames)
        #expect(request.notes.first?.contains("num_frames \(frames)") == true)
    }

    @Test("seconds beyond the limit, below one or beside num_frames are refused")
    func wrongSeconds() throws {
        let traits = try ModelFixtures.demo()
        #expect(refusal(traits) { $0.seconds = 0 }?.code == "seconds_out_of_range")
        #expect(refusal(traits) { $0.seconds = .max }?.code == "seconds_out_of_range")
        #expect(refusal(traits) { $0.seconds = 1000 }?.code == "seconds_out_of_range")
        let conflict = refusal(traits) {
            $0.seconds = 1
            $0.numFrames = 9
        }
        #expect(conflict?.code == "fields_conflict")
    }

    @Test("prompts that are missing, empty, too long or hold NUL are refused")
    func prompts() throws {
        let traits = try ModelFixtures.demo()
        #expect(refusal(traits) { $0.prompt = nil }?.code == "prompt_missing")
        #expect(refusal(traits) { $0.prompt = " \n" }?.code == "prompt_missing")
        #expect(refusal(traits) { $0.prompt = String(repeating: "ä", count: 4097) }?.code == "prompt_too_long")
        #expect(refusal(traits) { $0.prompt = "a\0b" }?.code == "prompt_invalid")
        let negative = refusal(traits) { $0.negativePrompt = String(repeating: "x", count: 8193) }
        #expect(negative?.code == "prompt_too_long")
        #expect(negative?.field == "negative_prompt")
        #expect(throws: Never.self) {
            try draft { $0.prompt = String(repeating: "x", count: 8192) }.resolved(for: traits)
        }
    }

    @Test("sizes are refused with the nearest that work")
    func sizes() throws {
        let traits = try ModelFixtures.cogVideoX2b()
        let odd = refusal(traits) { $0.width = 728 }
        #expect(odd?.code == "size_not_multiple_of_16")
        #expect(odd?.field == "width")
        #expect(odd?.remedy == "Use 720 or 736.")
        #expect(refusal(traits) { $0.height = 0 }?.code == "size_too_small")
        #expect(refusal(traits) { $0.height = -16 }?.code == "size_too_small")
        #expect(refusal(traits) { $0.height = 4112 }?.code == "size_too_large")
        #expect(refusal(traits) { $0.width = .max }?.code == "size_too_large")
        let heavy = refusal(traits) {
            $0.width = 4096
            $0.height = 4096
            $0.numFrames = 49
        }
        #expect(heavy?.code == "video_too_large")
    }

    @Test(
        "frame counts are refused with the nearest that work",
        arguments: [48, 8, 10, 13, 0, -7, 1033, Int.max, Int.min])
    func frames(count: Int) throws {
        let traits = try ModelFixtures.cogVideoX2b()
        let found = refusal(traits) { $0.numFrames = count }
        #expect(found?.code == "frame_count_unsupported")
        #expect(found?.message.contains("\(count)") == true)
        if count == 48 { #expect(found?.remedy == "Use 41 or 49.") }
    }

    @Test("step counts out of range or unsafe are refused with the nearest safe ones")
    func steps() throws {
        let traits = try ModelFixtures.cogVideoX2b()
        #expect(refusal(traits) { $0.numInferenceSteps = 0 }?.code == "num_inference_steps_out_of_range")
        #expect(refusal(traits) { $0.numInferenceSteps = 1001 }?.code == "num_inference_steps_out_of_range")
        let unsafe = refusal(traits) { $0.numInferenceSteps = 30 }
        #expect(unsafe?.code == "num_inference_steps_unsafe")
        #expect(unsafe?.remedy == "Use 25 or 40, or set allow_unsafe_steps.")
        let allowed = try draft {
            $0.numInferenceSteps = 30
            $0.allowUnsafeStepCount = true
        }.resolved(for: traits)
        #expect(allowed.numInferenceSteps == 30 && allowed.allowUnsafeStepCount)
    }

    @Test("the remaining values each have a code of their own")
    func others() throws {
        let traits = try ModelFixtures.demo()
        #expect(refusal(traits) { $0.guidanceScale = -0.5 }?.code == "guidance_scale_out_of_range")
        #expect(refusal(traits) { $0.guidanceScale = 101 }?.code == "guidance_scale_out_of_range")
        #expect(refusal(traits) { $0.guidanceScale = .nan }?.code == "guidance_scale_out_of_range")
        #expect(refusal(traits) { $0.framesPerSecond = 0 }?.code == "fps_out_of_range")
        #expect(refusal(traits) { $0.framesPerSecond = 121 }?.code == "fps_out_of_range")
        #expect(refusal(traits) { $0.scheduler = "euler" }?.code == "scheduler_unknown")
        #expect(refusal(traits) { $0.scheduler = "euler" }?.remedy == "Use one of: ddim, dpm.")
        #expect(refusal(traits) { $0.dtype = "int4" }?.code == "dtype_unknown")
        #expect(refusal(traits) { $0.container = "avi" }?.code == "container_unknown")
        #expect(refusal(traits) { $0.outputType = "pil" }?.code == "output_type_unknown")
        #expect(refusal(traits) { $0.model = "sora-2" }?.code == "model_unknown")
    }

    @Test("a model is known by name, by digest and as default")
    func modelNames() throws {
        let traits = try ModelFixtures.demo()
        for name in [traits.name, traits.digest, "default"] {
            #expect(try draft { $0.model = name }.resolved(for: traits).model == "cogvideox-demo")
        }
    }

    @Test("a model with learned positions makes its native size and length only")
    func learnedPositions() throws {
        let traits = try ModelFixtures.learnedPositions()
        #expect(refusal(traits) { $0.width = 640 }?.code == "size_fixed_by_model")
        #expect(refusal(traits) { $0.numFrames = 41 }?.code == "frame_count_fixed_by_model")
        #expect(try draft().resolved(for: traits).numFrames == 49)
    }
}
