import Failure
import FoundationEssentials
import GatewayService
import Hummingbird
import HummingbirdTesting
import Media
import NIOCore
import Request
import Tensor
import Testing
import Wire

@Suite("One request may ask for several videos, or for the caption of a clip")
struct SeveralVideosTests {
    private struct List: Decodable {
        var object: String
        var data: [Video]
        var has_more: Bool
    }

    private struct Video: Decodable {
        var id: String
        var seed: UInt64
        var x_file_name: String
    }

    private let three = #"{"prompt": "green hills", "seed": 7, "n": 3}"#

    @Test("n makes as many jobs with seeds that follow one another, and answers with a list")
    func several() async throws {
        let fixture = try GatewayFixture()
        try await fixture.test { client in
            let list = try await client.create(three).decoded(List.self)
            #expect(list.object == "list" && !list.has_more)
            #expect(list.data.map(\.seed) == [7, 8, 9] && Set(list.data.map(\.id)).count == 3)
            #expect(
                list.data.map(\.x_file_name) == [
                    "green-hills-s7.mp4", "green-hills-s8.mp4", "green-hills-s9.mp4",
                ])
            let one = try await client.create(#"{"prompt": "green hills", "n": 1}"#).decoded(List.self)
            #expect(one.data.count == 1)
            #expect(try await client.create(#"{"prompt": "green hills"}"#).video().object == "video")
        }
        let submitted = await fixture.service.submitted
        #expect(submitted.count == 5)
        #expect(Set(submitted.prefix(3).map { $0.tasks[0].parameters }).count == 1, "all encode the same text")
    }

    @Test("a repeated key gives the same jobs again, and another number of videos is another request")
    func keys() async throws {
        let fixture = try GatewayFixture(), key = try #require(HTTPFields.Element.Name("Idempotency-Key"))
        try await fixture.test { client in
            let first = try await client.create(three, headers: [key: "k"])
            let again = try await client.create(three, headers: [key: "k"])
            #expect(try first.decoded(List.self).data.map(\.id) == again.decoded(List.self).data.map(\.id))
            #expect(again.header("Idempotent-Replayed") == "true" && first.header("Idempotent-Replayed") == nil)
            for other in [#"{"prompt": "green hills", "seed": 7}"#, three.replacing("3", with: "2")] {
                let refused = try await client.create(other, headers: [key: "k"])
                #expect(refused.status == .conflict && refused.text.contains("key_reused_with_other_body"))
            }
        }
        #expect(await fixture.service.submitted.count == 3)
    }

    @Test("numbers that nobody means are refused by name", arguments: ["0", "17", "-1", "\"three\"", "1.5"])
    func refused(number: String) async throws {
        let fixture = try GatewayFixture()
        try await fixture.test { client in
            let answer = try await client.create(#"{"prompt": "hills", "n": \#(number)}"#)
            #expect(answer.status == .badRequest)
            #expect(answer.text.contains("n_out_of_range") || answer.text.contains("wrong_type"))
        }
        #expect(await fixture.service.submitted.isEmpty)
    }

    // MARK: Captions

    private func clip() throws -> [UInt8] {
        let path = FileManager.default.temporaryDirectory.appending(path: "zoetrope-\(UUID().uuidString).mkv").path
        defer { try? FileManager.default.removeItem(atPath: path) }
        let writer = try VideoWriter(
            path: path, container: .mkv, width: 1024, height: 64,
            framesPerSecond: try #require(FrameRate(numerator: 8)))
        try writer.append(frames: Tensor(zeros: [40, 64, 1024, 3], dtype: .uint8))
        try writer.finish()
        return Array(try #require(FileManager.default.contents(atPath: path)))
    }

    private struct Stored: Decodable { var id: String }

    @Test("a clip to caption becomes a few small frames for the task before the text encoder")
    func captioned() async throws {
        let captioner = GatewayFixture.worker("prompt-upsampler", model: "")
        let service = FakeJobService(workers: GatewayFixture.completeCluster + [captioner])
        let fixture = try GatewayFixture(service: service), file = try clip()
        try await fixture.test { client in
            let id = try await client.execute(
                uri: "/v1/media", method: .post, headers: [:], body: ByteBuffer(bytes: file)
            ) { $0 }.decoded(Stored.self).id
            let answer = try await client.create(#"{"caption_of": "\#(id)"}"#)
            #expect(answer.status == .ok, "\(answer.text)")
            let unknown = try await client.create(#"{"caption_of": "nothing"}"#)
            #expect(unknown.status == .badRequest && unknown.text.contains("media_unknown"))
        }
        let submit = try #require(await service.submitted.first)
        #expect(submit.tasks.map(\.name) == ["caption", "encode", "denoise", "decode", "mux"])
        guard case .blob(let ref)? = submit.tasks[0].inputs.first?.source else {
            Issue.record("the caption has no frames")
            return
        }
        #expect(ref.shape == [8, 32, 512, 3] && ref.dtype == .uint8)
    }

    @Test("where nobody could caption a clip, there is no job")
    func nobody() async throws {
        let service = FakeJobService(workers: GatewayFixture.completeCluster)
        let fixture = try GatewayFixture(service: service), file = try clip()
        try await fixture.test { client in
            let id = try await client.execute(
                uri: "/v1/media", method: .post, headers: [:], body: ByteBuffer(bytes: file)
            ) { $0 }.decoded(Stored.self).id
            let answer = try await client.create(#"{"caption_of": "\#(id)"}"#)
            #expect(answer.status == .serviceUnavailable && answer.text.contains("captioner_missing"))
        }
        #expect(await service.submitted.isEmpty)
    }
}
