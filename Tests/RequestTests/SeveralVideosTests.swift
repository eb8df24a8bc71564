import Failure
import Request
import Testing
import Wire

@Suite struct SeveralVideosTests {
    private func draft(_ count: Int?, _ change: (inout RequestDraft) -> Void = { _ in }) -> RequestDraft {
        var draft = RequestDraft()
        draft.prompt = "hills"
        draft.count = count
        draft.seed = 7
        change(&draft)
        return draft
    }

    private func code(_ body: () throws(Failure) -> Void) -> String? {
        do throws(Failure) {
            try body()
            return nil
        } catch {
            return error.code
        }
    }

    @Test("seeds follow one another, and everything else is the same")
    func seeds() throws {
        let several = try #require(try SeveralVideos(draft(3)))
        let first = try draft(3).resolved(for: try ModelFixtures.demo())
        let requests = try several.requests(first)
        #expect(requests.map(\.seed) == [7, 8, 9])
        for var request in requests {
            request.seed = first.seed
            #expect(request == first)
        }
        #expect(try SeveralVideos(draft(nil)) == nil)
    }

    @Test("one key belongs to one request: the first video has it, the others have keys that follow from it")
    func keys() throws {
        let several = try #require(try SeveralVideos(draft(3)))
        let keys = (0..<3).map { several.key("mine", $0) }
        #expect(keys[0] == "mine" && Set(keys).count == 3)
        #expect(keys == (0..<3).map { several.key("mine", $0) })
        #expect(keys.allSatisfy { $0.utf8.count <= RequestLimits.idempotencyKeyBytes })
        #expect((0..<3).allSatisfy { several.key("", $0).isEmpty })
        #expect(several.key("mine", 1) != several.key("other", 1))
    }

    @Test("a video of several is another request than a video alone, and than one of another number of them")
    func digests() throws {
        let traits = try ModelFixtures.demo(), request = try draft(nil).resolved(for: traits)
        func digest(_ count: Int) throws -> Digest {
            let several = try #require(try SeveralVideos(draft(count)))
            return try JobGraph.submit(for: request, traits: traits, variant: several.variant(0)).requestDigest
        }
        let alone = try JobGraph.submit(for: request, traits: traits).requestDigest
        #expect(try digest(1) == alone)
        #expect(try Set([alone, digest(2), digest(3)]).count == 3)
    }

    @Test("numbers that nobody means, seeds beyond the last and noise that makes all alike are refused")
    func refusals() throws {
        for count in [0, -1, 17, .max] {
            #expect(code { () throws(Failure) in _ = try SeveralVideos(draft(count)) } == "n_out_of_range")
        }
        #expect(
            code { () throws(Failure) in _ = try SeveralVideos(draft(2) { $0.initialLatents = "x" }) }
                == "fields_conflict")
        let several = try #require(try SeveralVideos(draft(2)))
        let last = try draft(2) { $0.seed = .max }.resolved(for: try ModelFixtures.demo())
        #expect(code { () throws(Failure) in _ = try several.requests(last) } == "seed_out_of_range")
    }

    @Test("a file's name follows from prompt and seed")
    func names() {
        #expect(VideoName.of(prompt: "The sun, rising!", seed: 7, container: "webm") == "the-sun-rising-s7.webm")
        #expect(VideoName.of(prompt: "太阳", seed: 1, container: "mp4") == "video-s1.mp4")
    }
}
