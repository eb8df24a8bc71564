import Failure
import Request
import Tensor
import Testing
import Wire

@Suite struct CaptionTests {
    private let frames = TensorRef(digest: Digest.of([1]), dtype: .uint8, shape: [8, 48, 64, 3], locations: [])

    private func draft(_ change: (inout RequestDraft) -> Void = { _ in }) -> RequestDraft {
        var draft = RequestDraft()
        draft.captionOf = "an id"
        draft.seed = 7
        change(&draft)
        return draft
    }

    private func code(_ draft: RequestDraft) throws -> String? {
        let traits = try ModelFixtures.demo()
        do throws(Failure) {
            _ = try draft.resolved(for: traits)
            return nil
        } catch {
            return error.code
        }
    }

    @Test("a clip is captioned first, its caption is what the text encoder reads and the file says")
    func graph() throws {
        let traits = try ModelFixtures.demo(), request = try draft().resolved(for: traits)
        #expect(request.isCaptioned == true && request.prompt.isEmpty)
        let caption = JobGraph.Caption(frames: frames, file: "abc")
        let submit = try JobGraph.submit(for: request, traits: traits, caption: caption)
        #expect(submit.tasks.map(\.name) == ["caption", "encode", "denoise", "decode", "mux"])
        #expect(submit.tasks[0].stage == "prompt-upsampler")
        #expect(submit.tasks[0].inputs == [TaskInput(name: "frames", source: .blob(frames))])
        let prompt = TaskInput(name: "prompt", source: .task(name: "caption", output: "prompt"))
        #expect(submit.tasks[1].inputs == [prompt] && submit.tasks[4].inputs.last == prompt)
        let recorded = try CanonicalJSON.decode(GenerationRequest.self, from: submit.specification)
        #expect(
            recorded.inputs == [RequestInput(field: "caption_of", file: "abc", content: frames.digest.description)])
        var others = frames
        others.digest = Digest.of([2])
        let other = try JobGraph.submit(
            for: request, traits: traits, caption: JobGraph.Caption(frames: others, file: "abc"))
        #expect(other.requestDigest != submit.requestDigest)
    }

    @Test("nobody else writes the prompt of a captioned clip, and without one there must be a prompt")
    func conflicts() throws {
        #expect(try code(draft { $0.prompt = "hills" }) == "fields_conflict")
        #expect(try code(draft { $0.upsamplePrompt = true }) == "fields_conflict")
        #expect(
            try code(draft { $0.attachment = AttachedFile(field: "caption_of", bytes: [1]) }) == "fields_conflict")
        #expect(try code(draft { $0.captionOf = nil }) == "prompt_missing")
        #expect(try code(draft()) == nil)
    }

    @Test("a clip can be captioned and be what the video is made of")
    func together() throws {
        let request = try draft { $0.video = "the same id" }.resolved(for: try ModelFixtures.demo(), sourceFrames: 17)
        #expect(request.isCaptioned == true && request.conditioning == .video)
    }

    @Test("a captioned request without frames, and frames that nobody asked for, are refused")
    func frameChecks() throws {
        let traits = try ModelFixtures.demo(), request = try draft().resolved(for: traits)
        let plain = try draft {
            $0.captionOf = nil
            $0.prompt = "hills"
        }.resolved(for: traits)
        var many = frames
        many.shape[0] = 9
        for (request, frames) in [(request, nil), (plain, frames), (request, many)] {
            let failure = #expect(throws: Failure.self) {
                try JobGraph.submit(
                    for: request, traits: traits, caption: frames.map { JobGraph.Caption(frames: $0, file: "") })
            }
            #expect(failure?.code == "pixels_misshapen")
        }
    }
}
