import Diffusion
import Failure
import Request
import Testing
import Wire

@Suite("A request may ask for a step cache")
struct StepCacheRequestTests {
    private func resolved(
        _ traits: ModelTraits, _ method: String?, threshold: Double? = nil, range: Int? = nil
    ) throws -> GenerationRequest {
        var draft = RequestDraft()
        draft.prompt = "a sunset over orange hills"
        draft.seed = 3
        draft.stepCache = method
        draft.stepCacheThreshold = threshold
        draft.stepCacheRange = range
        return try draft.resolved(for: traits)
    }

    private func refusal(
        _ traits: ModelTraits, _ method: String?, threshold: Double? = nil, range: Int? = nil
    ) -> Failure? {
        let found = #expect(throws: Failure.self) {
            try resolved(traits, method, threshold: threshold, range: range)
        }
        #expect(found?.field?.hasPrefix("step_cache") == true && found?.remedy != nil)
        return found
    }

    @Test("none is the default, and leaves the job's identity as it was", arguments: [nil, "none"])
    func none(method: String?) throws {
        let traits = try ModelFixtures.cogVideoX2b()
        let request = try resolved(traits, method)
        #expect(request.stepCache == nil && request.stepCacheThreshold == nil && request.stepCacheRange == nil)
        let submit = try JobGraph.submit(for: request, traits: traits)
        #expect(!submit.specification.contains("step_cache"))
        #expect(!submit.tasks[1].parameters.contains("stepCache"))
    }

    @Test("the published settings stand where none are given")
    func defaults() throws {
        let traits = try ModelFixtures.cogVideoX2b()
        let teacache = try resolved(traits, "teacache")
        #expect(teacache.stepCacheThreshold == 0.2 && teacache.stepCacheRange == nil)
        #expect(teacache.stepCacheCoefficients == traits.teaCacheCoefficients)
        let firstBlock = try resolved(traits, "first_block")
        #expect(firstBlock.stepCacheThreshold == 0.05 && firstBlock.stepCacheCoefficients == nil)
        let broadcast = try resolved(traits, "pab")
        #expect(broadcast.stepCacheRange == 2 && broadcast.stepCacheThreshold == nil)
    }

    @Test("settings reach the denoiser, and make the request another one")
    func reaches() throws {
        let traits = try ModelFixtures.cogVideoX2b()
        let request = try resolved(traits, "teacache", threshold: 0.3)
        let submit = try JobGraph.submit(for: request, traits: traits)
        let parameters = try CanonicalJSON.decode(DenoiseParameters.self, from: submit.tasks[1].parameters)
        #expect(parameters.stepCache == .teacache && parameters.stepCacheThreshold == 0.3)
        #expect(parameters.stepCacheCoefficients == traits.teaCacheCoefficients && parameters.stepCacheRange == nil)
        #expect(try CanonicalJSON.decode(GenerationRequest.self, from: submit.specification) == request)
        let plain = try JobGraph.submit(for: try resolved(traits, nil), traits: traits)
        #expect(plain.requestDigest != submit.requestDigest)
    }

    @Test("TeaCache has the published polynomial of every released shape, the folder's own, or none")
    func coefficients() throws {
        #expect(try ModelFixtures.cogVideoX2b().teaCacheCoefficients?.first == -31.0658903)
        #expect(try ModelFixtures.cogVideoX5b().teaCacheCoefficients?.first == -1538.80483)
        #expect(try ModelFixtures.cogVideoX15().teaCacheCoefficients?.first == 250.210439)
        #expect(try ModelFixtures.demo().teaCacheCoefficients?.count == 5)
        let small = try ModelFixtures.traits(transformer: ["num_layers": "4"])
        #expect(small.teaCacheCoefficients == nil)
        #expect(refusal(small, "teacache")?.code == "step_cache_unsupported")
        #expect(try resolved(small, "first_block").stepCache == .firstBlock)
        let own = try ModelFixtures.traits(
            transformer: ["num_layers": "4"], zoetrope: #"{"fps": 8, "teacache_coefficients": [0.5, -1e-2]}"#)
        #expect(try resolved(own, "teacache").stepCacheCoefficients == [0.5, -0.01])
        #expect(own.defaultFramesPerSecond == 8)
        for wrong in [#"{"teacache_coefficients": []}"#, #"{"teacache_coefficients": 3}"#, #"{"fps": [8]}"#] {
            let failure = #expect(throws: Failure.self, "\(wrong)") {
                try ModelFixtures.traits(transformer: [:], zoetrope: wrong)
            }
            #expect(failure?.code == "model_config_invalid")
        }
    }

    @Test("an unknown method, a setting of another method and values out of range are refused")
    func refusals() throws {
        let traits = try ModelFixtures.cogVideoX2b()
        let unknown = refusal(traits, "deepcache")
        #expect(unknown?.code == "step_cache_unknown")
        #expect(unknown?.remedy == "Use one of: none, teacache, first_block, pab.")
        #expect(refusal(traits, nil, threshold: 0.1)?.code == "fields_conflict")
        #expect(refusal(traits, "pab", threshold: 0.1)?.code == "fields_conflict")
        let range = refusal(traits, "teacache", range: 2)
        #expect(range?.code == "fields_conflict" && range?.field == "step_cache_range")
        #expect(range?.remedy == "Set step_cache to pab, or leave step_cache_range out.")
        for threshold in [0, -0.1, 1.01, .nan, .infinity] {
            let found = refusal(traits, "first_block", threshold: threshold)
            #expect(found?.code == "step_cache_threshold_out_of_range", "\(threshold)")
        }
        for steps in [1, 0, -3, 11, Int.max] {
            #expect(refusal(traits, "pab", range: steps)?.code == "step_cache_range_out_of_range", "\(steps)")
        }
    }
}
