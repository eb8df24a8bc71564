import FoundationEssentials
import Hummingbird
import HummingbirdTesting
import Testing
import Wire

@Suite("Running jobs can be looked at")
struct PreviewTests {
    private struct Picture: Decodable {
        var step: Int
        var total: Int
        var width: Int
        var mime_type: String
        var data: Data
    }

    private func preview(_ job: String, step: UInt32) -> Preview {
        Preview(
            lease: Lease(task: TaskID(job: job, name: "denoise"), fence: 1), step: step, totalSteps: 25, width: 96,
            height: 48, jpeg: [0xff, 0xd8, UInt8(step)])
    }

    @Test("previews are events with the step and the JPEG, and the end of the job is the last")
    func stream() async throws {
        let fixture = try GatewayFixture()
        try await fixture.testLive { client in
            let id = try await client.create(#"{"prompt": "hills"}"#).video().id
            var status = try await fixture.service.status(job: id)
            status.state = .done
            status.revision = 2
            await fixture.service.script(id, [status])
            await fixture.service.show([preview(id, step: 3), preview(id, step: 7)])
            let answer = try await client.get("/v1/videos/\(id)/previews")
            #expect(answer.header("Content-Type") == "text/event-stream")
            let data = answer.text.split(separator: "\n").filter { $0.hasPrefix("data: ") }.map { $0.dropFirst(6) }
            #expect(answer.text.contains("event: end\ndata: {\"status\":\"completed\"}"))
            let pictures = try data.dropLast().map { try JSONDecoder().decode(Picture.self, from: Data($0.utf8)) }
            // The end may overtake pictures: it is not waited for.
            #expect(pictures.map(\.step) == Array([3, 7].prefix(pictures.count)))
            for picture in pictures {
                #expect(picture.total == 25 && picture.width == 96 && picture.mime_type == "image/jpeg")
                #expect(Array(picture.data) == [0xff, 0xd8, UInt8(picture.step)])
            }
        }
    }

    @Test("a job that is over has none, and one that does not exist is not found")
    func over() async throws {
        let fixture = try GatewayFixture()
        try await fixture.testLive { client in
            let id = try await client.create(#"{"prompt": "hills"}"#).video().id
            await fixture.service.update(id) { $0.state = .done }
            #expect(try await client.get("/v1/videos/\(id)/previews").status == .noContent)
            #expect(try await client.get("/v1/videos/nothing/previews").status == .notFound)
        }
    }

    @Test("a model whose colours nobody has fitted is refused by name")
    func unavailable() async throws {
        let fixture = try GatewayFixture(hasColors: false)
        try await fixture.testLive { client in
            let id = try await client.create(#"{"prompt": "hills"}"#).video().id
            let answer = try await client.get("/v1/videos/\(id)/previews")
            #expect(answer.status == .conflict && answer.text.contains("previews_unavailable"))
        }
    }
}
