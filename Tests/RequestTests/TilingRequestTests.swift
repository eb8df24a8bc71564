import Checkpoint
import Failure
import Foundation
import Request
import Tensor
import Testing
import Wire

@Suite("A request for tiles")
struct TilingRequestTests {
    private func request(
        _ traits: ModelTraits, _ change: (inout RequestDraft) -> Void = { _ in }
    ) throws -> GenerationRequest {
        var draft = RequestDraft()
        draft.prompt = "a sunset over orange hills"
        draft.seed = 3
        draft.vaeTiling = true
        change(&draft)
        return try draft.resolved(for: traits)
    }

    private func parameters(_ task: TaskSpecification) throws -> DecodeParameters {
        try CanonicalJSON.decode(DecodeParameters.self, from: task.parameters)
    }

    @Test("a video has a decode task for every tile, and the muxer reads them all, row by row")
    func tasks() throws {
        let traits = try ModelFixtures.demo()
        let submit = try JobGraph.submit(for: try request(traits), traits: traits)
        let names = [0, 1, 2].flatMap { row in [0, 1, 2].map { "decode.\(row).\($0)" } }
        #expect(submit.tasks.map(\.name) == ["encode", "denoise"] + names.reversed() + ["mux"])
        let tiles = submit.tasks[2..<11].reversed()
        for task in tiles {
            #expect(task.stage == "vae-decoder" && task.model == traits.digest && !task.durableOutputs)
            #expect(task.inputs == [TaskInput(name: "latents", source: .task(name: "denoise", output: "latents"))])
        }
        let shares = try tiles.map { try parameters($0) }
        #expect(shares.map { $0.tiles?.first } == Array(0..<9) && shares.allSatisfy { $0.tiles?.count == 1 })
        #expect(shares[0].pixels == 6 * 5 * 64 && shares[8].pixels == 2 * 4 * 64)
        let all = shares.reduce(0) { $0 + ($1.pixels ?? 0) }
        #expect(shares.allSatisfy { $0.tiles?.clipBytes == all * 3 * 17 * 4 })
        let mux = try #require(submit.tasks.last)
        #expect(
            mux.inputs
                == names.enumerated().map { index, name in
                    TaskInput(name: "tiles.\(index)", source: .task(name: name, output: "tiles"))
                })
        let sources = try #require(try CanonicalJSON.decode(MuxParameters.self, from: mux.parameters).tiles)
        #expect(sources.counts == Array(repeating: 1, count: 9) && sources.grid.isSound && sources.grid.count == 9)
    }

    @Test("more tiles than the muxer has inputs are shared out in runs, and all of them are made once")
    func runs() throws {
        let traits = try ModelFixtures.cogVideoX5b()
        let big = try request(traits) { ($0.width, $0.height, $0.numFrames) = (1360, 768, 9) }
        let submit = try JobGraph.submit(for: big, traits: traits)
        let decodes = submit.tasks.filter { $0.stage == "vae-decoder" }
        let shares = try decodes.reversed().map { try #require(try parameters($0).tiles) }
        #expect(shares.count == Limits.inputsPerTask && submit.tasks.last?.inputs.count == Limits.inputsPerTask)
        #expect(shares.flatMap { $0.first..<$0.first + $0.count } == Array(0..<20))
        #expect(Set(shares.map(\.count)) == [1, 2])
        let mux = try CanonicalJSON.decode(MuxParameters.self, from: try #require(submit.tasks.last).parameters)
        #expect(mux.tiles?.counts == shares.map(\.count))
    }

    @Test(
        "one decoder makes it all where frames are wanted, or more than may wait for the muxer",
        arguments: ["frames", "floats", "long"])
    func oneDecoder(kind: String) throws {
        let traits = kind == "long" ? try ModelFixtures.cogVideoX5b() : try ModelFixtures.demo()
        let asked = try request(traits) {
            switch kind {
            case "frames": $0.outputType = "frames"
            case "floats": $0.keepFloatFrames = true
            default: ($0.width, $0.height, $0.numFrames) = (2048, 1024, 161)
            }
        }
        let decodes = try JobGraph.submit(for: asked, traits: traits).tasks.filter { $0.stage == "vae-decoder" }
        #expect(decodes.map(\.name) == ["decode"])
        let found = try parameters(decodes[0])
        #expect(found.isTiled == true && found.tiles == nil)
    }

    @Test("a clip of one tile, or a request without tiles, is decoded whole")
    func whole() throws {
        let traits = try ModelFixtures.demo()
        let small = try request(traits) { ($0.width, $0.height) = (32, 48) }
        for asked in [small, try request(traits) { $0.vaeTiling = false }, try request(traits) { $0.vaeTiling = nil }] {
            let submit = try JobGraph.submit(for: asked, traits: traits)
            #expect(submit.tasks.map(\.name) == ["encode", "denoise", "decode", "mux"])
            #expect(try parameters(submit.tasks[2]).isTiled == nil)
        }
        let plain = try request(traits) { $0.vaeTiling = nil }
        #expect(plain == (try request(traits) { $0.vaeTiling = false }))
        #expect(!(try JobGraph.submit(for: plain, traits: traits).specification.contains("vae_tiling")))
    }

    @Test("what was decoded whole can be decoded again in tiles, and the other way round")
    func reencode() throws {
        let traits = try ModelFixtures.demo()
        let digest = try #require(Digest(bytes: Array(repeating: 7, count: 32)))
        let latents = TensorRef(digest: digest, dtype: .float32, shape: [1, 5, 8, 12, 12], locations: [])
        func tasks(_ original: GenerationRequest, tiling: Bool?) throws -> [TaskSpecification] {
            var draft = RequestDraft()
            draft.vaeTiling = tiling
            return try JobGraph.reencode(
                draft.reencoding(original, traits: traits), latents: latents, of: "video_1", traits: traits
            ).tasks
        }
        let plain = try request(traits) { $0.vaeTiling = nil }, tiled = try request(traits)
        #expect(try tasks(plain, tiling: true).count == 10)
        #expect(try tasks(plain, tiling: true).dropLast().allSatisfy { $0.inputs[0].source == .blob(latents) })
        #expect(try tasks(tiled, tiling: nil).count == 10)
        #expect(try tasks(tiled, tiling: false).map(\.name) == ["decode", "mux"])
    }

    @Test("a clip that a job begins with is encoded in tiles too")
    func condition() throws {
        let traits = try ModelFixtures.demo()
        var draft = RequestDraft()
        draft.prompt = "hills"
        draft.video = "a"
        draft.vaeTiling = true
        let asked = try draft.resolved(for: traits, sourceFrames: 17)
        let digest = try #require(Digest(bytes: Array(repeating: 7, count: 32)))
        let pixels = TensorRef(digest: digest, dtype: .uint8, shape: [17, 96, 96, 3], locations: [])
        let submit = try JobGraph.submit(for: asked, traits: traits, pixels: pixels)
        let condition = try #require(submit.tasks.first { $0.name == "condition" })
        #expect(try CanonicalJSON.decode(ConditionParameters.self, from: condition.parameters).isTiled == true)
    }
}
