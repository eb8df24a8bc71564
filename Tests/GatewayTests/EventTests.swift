import FoundationEssentials
import Hummingbird
import HummingbirdTesting
import Testing
import Wire

@Suite("A job can be followed by Server-Sent Events")
struct EventTests {
    /// One event as a browser's EventSource reads it.
    struct Event: Equatable {
        var name: String
        var id: String?
        var data: String
    }

    private func events(_ text: String) -> [Event] {
        text.components(separatedBy: "\n\n").compactMap { block in
            var event = Event(name: "", id: nil, data: "")
            for line in block.split(separator: "\n") {
                if line.hasPrefix("event: ") { event.name = String(line.dropFirst(7)) }
                if line.hasPrefix("id: ") { event.id = String(line.dropFirst(4)) }
                if line.hasPrefix("data: ") { event.data += line.dropFirst(6) }
            }
            return event.name.isEmpty ? nil : event
        }
    }

    /// A job that is queued at revision 1, runs at 2 and 3, and is done at 4.
    private func scriptedJob(_ fixture: GatewayFixture, _ client: any TestClientProtocol) async throws -> String {
        let id = try await client.create(#"{"prompt": "two\nlines"}"#).video().id
        var status = try await fixture.service.status(job: id)
        var script: [JobStatus] = []
        for (revision, state) in [(2, JobState.running), (3, .running), (4, .done)] {
            status.revision = UInt64(revision)
            status.state = state
            script.append(status)
        }
        await fixture.service.script(id, script)
        return id
    }

    private func video(_ event: Event) throws -> ReadVideo {
        try JSONDecoder().decode(ReadVideo.self, from: Data(event.data.utf8))
    }

    @Test("every change is an event with its revision as id, and the stream ends after the last")
    func changes() async throws {
        let fixture = try GatewayFixture()
        try await fixture.testLive { client in
            let id = try await scriptedJob(fixture, client)
            let answer = try await client.get("/v1/videos/\(id)/events")
            #expect(answer.header("Content-Type") == "text/event-stream")
            let found = events(answer.text)
            #expect(found.map(\.name) == ["status", "status", "status", "status"])
            #expect(found.map(\.id) == ["1", "2", "3", "4"])
            #expect(try found.map { try video($0).status } == ["queued", "in_progress", "in_progress", "completed"])
            #expect(try video(found[0]).prompt == "two\nlines")
        }
    }

    @Test("a reader that comes back gets only what it has not seen")
    func lastEventID() async throws {
        let fixture = try GatewayFixture()
        let name = try #require(HTTPFields.Element.Name("Last-Event-ID"))
        try await fixture.test { client in
            let id = try await scriptedJob(fixture, client)
            let answer = try await client.get("/v1/videos/\(id)/events", headers: [name: "2"])
            #expect(events(answer.text).map(\.id) == ["3", "4"])
            let odd = try await client.get("/v1/videos/\(id)/events", headers: [name: "not a number"])
            #expect(events(odd.text).count == 4)
        }
    }

    @Test("a finished job that was seen is 204, so that a browser stops coming back")
    func finished() async throws {
        let fixture = try GatewayFixture()
        let name = try #require(HTTPFields.Element.Name("Last-Event-ID"))
        try await fixture.test { client in
            let id = try await client.create(#"{"prompt": "a"}"#).video().id
            try await fixture.finish(id, video: [1])
            let revision = try await fixture.service.status(job: id).revision
            let seen = try await client.get("/v1/videos/\(id)/events", headers: [name: "\(revision)"])
            #expect(seen.status == .noContent)
            let unseen = try await client.get("/v1/videos/\(id)/events")
            #expect(events(unseen.text).map(\.id) == ["\(revision)"])
        }
    }

    @Test("a quiet stream is kept open by comments")
    func keepAlive() async throws {
        // The job takes a hundred times as long for each change as the interval of the comments.
        let fixture = try GatewayFixture(
            service: FakeJobService(pause: .milliseconds(100)), keepAlive: .milliseconds(1))
        try await fixture.test { client in
            let id = try await scriptedJob(fixture, client)
            let text = try await client.get("/v1/videos/\(id)/events").text
            #expect(text.contains("\n\n: keep-alive\n\n"))
            #expect(events(text).map(\.id) == ["1", "2", "3", "4"])
        }
    }
}
