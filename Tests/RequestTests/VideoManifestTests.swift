import Diffusion
import Failure
import Request
import Testing

@Suite struct VideoManifestTests {
    private func request(_ change: (inout GenerationRequest) -> Void = { _ in }) -> GenerationRequest {
        var request = GenerationRequest(
            model: "demo", prompt: "a sun", width: 96, height: 96, numFrames: 17, framesPerSecond: 8,
            numInferenceSteps: 25, guidanceScale: 4, scheduler: .ddim, seed: .max)
        change(&request)
        return request
    }

    private func manifest(
        _ request: GenerationRequest, prompt: String? = nil, decode: DecodeManner? = nil
    ) -> VideoManifest {
        VideoManifest(
            MuxParameters(request: request, modelDigest: "abc"), prompt: prompt, decode: decode,
            arithmetic: ["denoise": .init(name: "cpu/avx2/2"), "decode": .init(name: "cpu/avx2/2")],
            libraries: ["avcodec": "61.3.100"],
            framesDigest: "def", version: "1.2")
    }

    private func code(of comment: String?) -> String? {
        do throws(Failure) {
            _ = try VideoManifest(comment: comment)
            return nil
        } catch {
            return error.code
        }
    }

    @Test("a manifest is read as it was written, with every digit of the seed")
    func roundTrip() throws {
        let written = manifest(request { $0.inputs = [RequestInput(field: "image", file: "1", content: "2")] })
        let text = try written.encoded()
        #expect(try VideoManifest(comment: text) == written)
        #expect(text.contains("\"generator\":\"zoetrope 1.2\"") && text.contains("18446744073709551615"))
    }

    @Test("what changes from run to run or is kept beside the file is not in it")
    func stable() throws {
        let other = request {
            $0.notes = ["continued: from step 3 of video_1"]
            $0.seedIsRandom = true
            $0.keepStepLatents = true
            $0.keepFloatFrames = true
        }
        #expect(try manifest(other).encoded() == manifest(request()).encoded())
    }

    @Test("a prompt that another stage wrote is the manifest's prompt, and the user's is where it came from")
    func writtenPrompt() throws {
        let upsampled = manifest(request { $0.upsamplePrompt = true }, prompt: "a red sun over hills")
        #expect(upsampled.request.prompt == "a red sun over hills" && !upsampled.request.upsamplePrompt)
        #expect(upsampled.promptOrigin == .init(kind: "upsampled", from: "a sun"))
        #expect(manifest(request(), prompt: "a sun").promptOrigin == nil)
        let captioned = manifest(
            request {
                $0.prompt = ""
                $0.isCaptioned = true
            }, prompt: "a clip of a sun")
        #expect(captioned.promptOrigin == .init(kind: "caption") && captioned.request.isCaptioned == nil)
    }

    @Test("how many decoders really shared the decode is what the manifest asks for, and one alone is not mentioned")
    func decoders() throws {
        let plain = try manifest(request()).encoded()
        for asked in [nil, 1, 4] {
            let request = request { $0.decodeWorkers = asked }
            #expect(try manifest(request, decode: .asAsked).encoded() == plain)
            #expect(manifest(request, decode: .shared(3)).request.decodeWorkers == 3)
            #expect(manifest(request, decode: .shared(3)).request.fields["decode_workers"] as? Int == 3)
            #expect(manifest(request).request.decodeWorkers == asked, "where nobody knows it stays as it was asked")
        }
        #expect(plain.contains("decode_workers") == false)
    }

    @Test("tiles that a decoder took by itself are asked for where the request can say so, and told otherwise")
    func tiles() throws {
        let plain = manifest(request(), decode: .tiles)
        #expect(plain.request.vaeTiling == true && plain.arithmetic["decode"]?.tiled == nil)
        let conditioned = manifest(request { $0.conditioning = .video }, decode: .tiles)
        #expect(conditioned.request.vaeTiling == nil && conditioned.arithmetic["decode"]?.tiled == true)
        #expect(try VideoManifest(comment: conditioned.encoded()) == conditioned)
    }

    @Test("what decoders say is read as they say it, and anything else is nothing")
    func manners() {
        for manner in [DecodeManner.asAsked, .tiles, .shared(2), .shared(16)] {
            #expect(DecodeManner(text: manner.text) == manner)
        }
        #expect(DecodeManner.shared(1).text == "")
        for text in ["decoders", "decoders=", "decoders=1", "decoders=-2", "decoders=17", "decoders=2=2", "rows"] {
            #expect(DecodeManner(text: text) == .asAsked, "\(text)")
        }
    }

    @Test("a file without a manifest, a damaged one and one of a later version are told apart")
    func refusals() throws {
        #expect(code(of: nil) == "manifest_missing")
        #expect(code(of: "made with love") == "manifest_missing")
        #expect(code(of: #"{"generator":"zoetrope 0.1","request":{}}"#) == "manifest_missing")
        #expect(code(of: #"{"manifest":2,"anything":[1]}"#) == "manifest_newer")
        #expect(code(of: #"{"manifest":0}"#) == "manifest_invalid")
        #expect(code(of: #"{"manifest":1}"#) == "manifest_invalid")
        #expect(code(of: #"{"manifest":1"#) == "manifest_invalid")
        let text = try manifest(request()).encoded()
        #expect(code(of: String(text.dropLast(4))) == "manifest_invalid")
        #expect(code(of: text.replacing("\"width\":96", with: "\"width\":1e40")) == "manifest_invalid")
        #expect(code(of: text.replacing("\"ddim\"", with: "\"rm -rf\"")) == "manifest_invalid")
        #expect(code(of: text + String(repeating: " ", count: VideoManifest.limitBytes)) == "manifest_invalid")
    }

    @Test("asking for the same once more goes through the checks of every request and gives the same request")
    func fields() throws {
        let traits = try ModelFixtures.demo()
        var draft = RequestDraft()
        draft.prompt = "a sun"
        draft.seed = 5
        draft.stepCache = "first_block"
        draft.stepsUntil = 3
        draft.guidanceScale = 1.25
        let asked = try draft.resolved(for: traits)
        var again = RequestDraft()
        for (name, value) in asked.fields { try again.set(name, to: RequestFixtures.value(value)) }
        #expect(try again.resolved(for: traits) == asked)
        again.width = 1 << 40
        #expect(throws: Failure.self) { try again.resolved(for: traits) }
    }
}

enum RequestFixtures {
    /// A value of a request's `fields` as JSON would bring it.
    static func value(_ value: any Sendable) -> RequestValue {
        switch value {
        case let value as Bool: .bool(value)
        case let value as Int: .integer(Int64(value))
        case let value as UInt64: .integer(Int64(value))
        case let value as Double: .number(value)
        default: .string("\(value)")
        }
    }
}
