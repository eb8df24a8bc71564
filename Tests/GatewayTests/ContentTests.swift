import FoundationEssentials
import Hummingbird
import HummingbirdTesting
import Tensor
import Testing
import Wire

@Suite("Finished files are served whole, by range and with honest refusals")
struct ContentTests {
    private static let bytes = (0..<1000).map { UInt8(truncatingIfNeeded: $0 * 7) }

    @Test("the video comes with its type, length, tag and name; other variants with theirs")
    func whole() async throws {
        let fixture = try GatewayFixture()
        try await fixture.testLive { client in
            let id = try await client.create(#"{"prompt": "a", "container": "webm"}"#).video().id
            try await fixture.finish(id, video: Self.bytes)
            let answer = try await client.get("/v1/videos/\(id)/content")
            #expect(answer.status == .ok)
            #expect(Array(buffer: answer.body) == Self.bytes)
            #expect(answer.header("Content-Type") == "video/webm")
            #expect(answer.header("Content-Length") == "1000")
            #expect(answer.header("Accept-Ranges") == "bytes")
            #expect(answer.header("Content-Disposition") == "inline; filename=\"\(id).webm\"")
            let tag = try #require(answer.header("ETag"))
            let same = try await client.get("/v1/videos/\(id)/content", headers: [.ifNoneMatch: tag])
            #expect(same.status == .notModified && same.body.readableBytes == 0)
            let thumbnail = try await client.get("/v1/videos/\(id)/content?variant=thumbnail")
            #expect(thumbnail.header("Content-Type") == "image/jpeg")
            let sheet = try await client.get("/v1/videos/\(id)/content?variant=spritesheet")
            #expect(sheet.header("Content-Type") == "image/png")
            let head = try await client.execute(
                uri: "/v1/videos/\(id)/content", method: .head, headers: [:], body: nil
            ) { $0 }
            #expect(head.status == .ok && head.header("Content-Length") == "1000" && head.body.readableBytes == 0)
        }
        #expect(await fixture.service.fileReads == 1, "one transfer from the store serves them all")
    }

    @Test(
        "a range is answered with exactly its bytes",
        arguments: [
            ("bytes=0-9", 0..<10), ("bytes=990-", 990..<1000), ("bytes=-10", 990..<1000), ("bytes=5-5", 5..<6),
            ("bytes=990-5000", 990..<1000), ("bytes=-5000", 0..<1000), ("bytes=1-99999999999999999999", 1..<1000),
        ])
    func ranges(header: String, expected: Range<Int>) async throws {
        let fixture = try GatewayFixture()
        try await fixture.test { client in
            let id = try await client.create(#"{"prompt": "a"}"#).video().id
            try await fixture.finish(id, video: Self.bytes)
            let answer = try await client.get("/v1/videos/\(id)/content", headers: [.range: header])
            #expect(answer.status == .partialContent)
            #expect(Array(buffer: answer.body) == Array(Self.bytes[expected]))
            #expect(
                answer.header("Content-Range") == "bytes \(expected.lowerBound)-\(expected.upperBound - 1)/1000")
            #expect(answer.header("Content-Length") == "\(expected.count)")
        }
    }

    @Test(
        "a range that cannot be read is ignored, one beyond the end is 416",
        arguments: [
            ("bytes=1000-", 416), ("bytes=99999999999999999999-", 416), ("bytes=-0", 416), ("bytes=9-1", 200),
            ("bytes=a-b", 200), ("bytes=-", 200), ("lines=0-9", 200), ("bytes=0-1,5-6", 200), ("bytes=--1", 200),
        ])
    func oddRanges(header: String, status: Int) async throws {
        let fixture = try GatewayFixture()
        try await fixture.test { client in
            let id = try await client.create(#"{"prompt": "a"}"#).video().id
            try await fixture.finish(id, video: Self.bytes)
            let answer = try await client.get("/v1/videos/\(id)/content", headers: [.range: header])
            #expect(answer.status.code == status)
            if status == 416 {
                #expect(answer.header("Content-Range") == "bytes */1000")
                #expect(try answer.code() == "range_not_satisfiable")
            } else {
                #expect(answer.body.readableBytes == 1000)
            }
        }
    }

    @Test("a range under another tag than the file's gets the whole file")
    func ifRange() async throws {
        let fixture = try GatewayFixture()
        try await fixture.test { client in
            let id = try await client.create(#"{"prompt": "a"}"#).video().id
            try await fixture.finish(id, video: Self.bytes)
            let path = "/v1/videos/\(id)/content"
            let other = try await client.get(path, headers: [.range: "bytes=0-9", .ifRange: "\"old\""])
            #expect(other.status == .ok && other.body.readableBytes == 1000)
            let tag = try #require(other.header("ETag"))
            let same = try await client.get(path, headers: [.range: "bytes=0-9", .ifRange: tag])
            #expect(same.status == .partialContent)
        }
    }

    @Test("what is not there yet, never will be, or is gone again has a status of its own")
    func notThere() async throws {
        let fixture = try GatewayFixture()
        try await fixture.test { client in
            let id = try await client.create(#"{"prompt": "a"}"#).video().id
            let path = "/v1/videos/\(id)/content"
            await fixture.service.update(id) { $0.remainingMilliseconds = 7000 }
            let early = try await client.get(path)
            #expect(early.status == .notFound && early.header("Retry-After") == "7")
            #expect(try early.code() == "content_not_ready")

            await fixture.service.update(id) {
                $0.state = .failed
                $0.errorCode = "latents_not_finite"
                $0.errorMessage = "NaN at step 3"
            }
            let failed = try await client.get(path)
            #expect(failed.status == .unprocessableContent)
            #expect(try failed.code() == "job_failed")
            #expect(failed.text.contains("latents_not_finite"))

            await fixture.service.update(id) { $0.state = .cancelled }
            #expect(try await client.get(path).code() == "job_cancelled")

            await fixture.service.update(id) { $0.state = .done }
            let latentsOnly = try await client.get(path)
            #expect(latentsOnly.status == .notFound)
            #expect(try latentsOnly.code() == "content_missing")

            let gone = TensorRef(digest: try GatewayFixture.digest(1), dtype: .uint8, shape: [5], locations: [])
            await fixture.service.update(id) { $0.outputs = [NamedRef(name: "mux.video", ref: gone)] }
            let expired = try await client.get(path)
            #expect(expired.status == .gone)
            #expect(try expired.code() == "input_missing")
        }
    }
}
