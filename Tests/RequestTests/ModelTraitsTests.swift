import Diffusion
import Failure
import Request
import Testing

@Suite("What a model folder says about its requests")
struct ModelTraitsTests {
    @Test("the demo model brings its own steps, guidance and rate")
    func demo() throws {
        let traits = try ModelFixtures.demo()
        #expect(traits.nativeWidth == 96 && traits.nativeHeight == 96 && traits.nativeFrames == 17)
        #expect(traits.defaultSteps == 25)
        #expect(traits.defaultGuidanceScale == 4)
        #expect(traits.defaultFramesPerSecond == 8)
        #expect(traits.defaultScheduler == .ddim)
        #expect(traits.maxTextTokens == 32)
        #expect(traits.latentShape(width: 96, height: 96, numFrames: 17) == [1, 5, 8, 12, 12])
    }

    @Test("CogVideoX 1.0 defaults to 720×480, 49 frames, 50 steps, guidance 6 and 8 fps")
    func version10() throws {
        let traits = try ModelFixtures.cogVideoX2b()
        #expect(traits.nativeWidth == 720 && traits.nativeHeight == 480 && traits.nativeFrames == 49)
        #expect(traits.defaultSteps == 50 && traits.defaultGuidanceScale == 6 && traits.defaultFramesPerSecond == 8)
        #expect(traits.sizeDivisor == 16)
        #expect(traits.latentShape(width: 720, height: 480, numFrames: 49) == [1, 13, 16, 60, 90])
        #expect(try ModelFixtures.cogVideoX5b().defaultScheduler == .dpm)
    }

    @Test("CogVideoX 1.5 defaults to 1360×768 at 16 fps whichever of its two configurations is there")
    func version15() throws {
        for traits in [
            try ModelFixtures.cogVideoX15(), try ModelFixtures.cogVideoX15(sampleHeight: 96, sampleWidth: 170),
        ] {
            #expect(traits.nativeWidth == 1360 && traits.nativeHeight == 768 && traits.nativeFrames == 81)
            #expect(traits.defaultFramesPerSecond == 16)
        }
    }

    @Test(
        "latents of CogVideoX 1.5 are padded to whole temporal patches",
        arguments: [(81, 22), (161, 42), (9, 4), (1, 2)])
    func padding(frames: Int, latents: Int) throws {
        let traits = try ModelFixtures.cogVideoX15()
        #expect(traits.paddedLatentFrames(frames) == latents)
        #expect(traits.latentShape(width: 1360, height: 768, numFrames: frames)[1] == latents)
    }

    @Test("a frame count is possible when the decoder makes exactly so many")
    func frameCounts() throws {
        let traits = try ModelFixtures.cogVideoX2b()
        let possible = (1...60).filter { traits.canMake(frames: $0) }
        // Decoding F latents gives 4F − 3 frames for odd F and 4F for even F (docs of the reference, §5.6).
        let exact = (1...60).filter { count in
            let latents = (count - 1) / 4 + 1
            return (latents % 2 == 1 ? 4 * latents - 3 : 4 * latents) == count && (count - 1) % 4 == 0
        }
        #expect(possible == exact)
        #expect(traits.nearestFrameCounts(48) == [41, 49])
        #expect(traits.nearestFrameCounts(0) == [1, 9])
        #expect(traits.nearestFrameCounts(5000) == [1025])
    }

    @Test("a folder says what its videos begin with")
    func conditioning() throws {
        func traits(_ pipeline: String, _ channels: String) throws -> ModelTraits {
            try ModelFixtures.traits(
                pipeline: pipeline, transformer: ["in_channels": channels, "use_rotary_positional_embeddings": "true"])
        }
        #expect(try traits("CogVideoXImageToVideoPipeline", "32").possibleConditioning == [.image])
        #expect(try traits("CogVideoXFunControlPipeline", "32").possibleConditioning == [.control])
        #expect(try ModelFixtures.cogVideoX2b().possibleConditioning == [.text, .video])
        #expect(try ModelFixtures.cogVideoX15().possibleConditioning == [.text])
        let found = #expect(throws: Failure.self) { try traits("CogVideoXImageToVideoPipeline", "33") }
        #expect(found?.code == "model_pipeline_unsupported")
    }

    @Test(
        "a zoetrope.json that is wrong is refused with its path",
        arguments: [
            "[]", "{\"steps\": 3}", "{\"fps\": \"8\"}", "{\"fps\": 0}", "{\"num_inference_steps\": 2.5}",
            "{\"guidance_scale\": -1}", "{\"num_inference_steps\": 5000}", "{\"latent_rgb_factors\": [[1, 2]]}",
            "{\"latent_rgb_factors\": [[1, 2, 3]]}", "{\"latent_rgb_bias\": [1]}", "{\"latent_rgb_factors\": 1}",
        ])
    func wrongDefaults(text: String) {
        let found = #expect(throws: Failure.self) { try ModelFixtures.traits(transformer: [:], zoetrope: text) }
        #expect(found?.code == "model_config_invalid")
        #expect(found?.message.contains("zoetrope.json") == true)
    }
}
