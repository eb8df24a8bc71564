import Failure
import FoundationEssentials
import GatewayService
import Hummingbird
import HummingbirdTesting
import Media
import NIOCore
import Request
import Tensor
import TestSupport
import Testing
import Wire

@Suite("Pictures and clips come in as uploads or with the form")
struct MediaRouteTests {
    private struct Stored: Decodable { var id: String }

    private func picture(_ seed: UInt64 = 1) throws -> [UInt8] {
        var generator = SeededGenerator(seed: seed)
        let bytes = (0..<40 * 30 * 3).map { _ in UInt8.random(in: 0...255, using: &generator) }
        return try PNGWriter.encode(Tensor(bytes: bytes).reshaped([30, 40, 3]))
    }

    private func upload(_ client: any TestClientProtocol, _ bytes: [UInt8]) async throws -> TestResponse {
        try await client.execute(uri: "/v1/media", method: .post, headers: [:], body: ByteBuffer(bytes: bytes)) { $0 }
    }

    private func form(_ client: any TestClientProtocol, _ field: String, _ file: [UInt8]) async throws -> TestResponse {
        let head =
            "--limit\r\nContent-Disposition: form-data; name=\"prompt\"\r\n\r\na boat\r\n"
            + "--limit\r\nContent-Disposition: form-data; name=\"\(field)\"; filename=\"a\"\r\n\r\n"
        let body = Array(head.utf8) + file + Array("\r\n--limit--\r\n".utf8)
        return try await client.execute(
            uri: "/v1/videos", method: .post, headers: [.contentType: "multipart/form-data; boundary=limit"],
            body: ByteBuffer(bytes: body)
        ) { $0 }
    }

    private func pixels(_ fixture: GatewayFixture) async throws -> [TensorRef] {
        await fixture.service.submitted.compactMap { submit in
            let task = submit.tasks.first { $0.name == "condition" }
            guard case .blob(let ref)? = task?.inputs.first?.source else { return nil }
            return ref
        }
    }

    @Test("an uploaded picture and one in the form become the same frame of the clip's size")
    func image() async throws {
        let fixture = try GatewayFixture(conditioning: .image), file = try picture()
        try await fixture.test { client in
            let id = try await upload(client, file).decoded(Stored.self).id
            let created = try await client.create(#"{"prompt": "a boat", "image": "\#(id)", "fit": "cover"}"#)
            #expect(created.status == .ok)
            #expect(try await client.create(#"{"prompt": "a boat", "image": "\#(id)"}"#).status == .ok)
            #expect(try await form(client, "input_reference", file).status == .ok)
            #expect(try await form(client, "image", file).status == .ok)
        }
        let refs = try await pixels(fixture)
        #expect(refs.map(\.shape) == Array(repeating: [1, 96, 96, 3], count: 4))
        #expect(refs[0].digest != refs[1].digest, "cover is not stretch")
        #expect(refs[1].digest == refs[2].digest && refs[2].digest == refs[3].digest)
        let expected = try ImageFit.stretch.fitted(InputImage(bytes: file).pixels, width: 96, height: 96)
        #expect(try await fixture.service.bytes(of: refs[1]) == expected.withUnsafeBytes { Array($0) })
    }

    @Test("a clip gives the frames that the job uses")
    func video() async throws {
        let fixture = try GatewayFixture()
        let path = FileManager.default.temporaryDirectory.appending(path: "zoetrope-\(UUID().uuidString).mkv").path
        defer { try? FileManager.default.removeItem(atPath: path) }
        let writer = try VideoWriter(
            path: path, container: .mkv, width: 96, height: 96,
            framesPerSecond: try #require(FrameRate(numerator: 8)))
        let frames = Tensor(bytes: (0..<12 * 96 * 96 * 3).map { UInt8(truncatingIfNeeded: $0 / 27_648 * 20) })
            .reshaped([12, 96, 96, 3])
        try writer.append(frames: frames)
        try writer.finish()
        let file = Array(try #require(FileManager.default.contents(atPath: path)))
        try await fixture.test { client in
            let answer = try await form(client, "input_reference", file)
            #expect(answer.status == .ok)
        }
        let ref = try #require(try await pixels(fixture).first)
        #expect(ref.shape == [9, 96, 96, 3])
        #expect(
            try await fixture.service.bytes(of: ref) == frames.rows(0..<9).withUnsafeBytes { Array($0) },
            "lossless, and no resize")
        #expect(await fixture.service.submitted[0].specification.contains("the first 9 of 12 frames"))
    }

    @Test("what is no picture, unknown or of no use to the model is refused, and the next request works")
    func refused() async throws {
        let fixture = try GatewayFixture(conditioning: .image), file = try picture()
        try await fixture.test { client in
            #expect(try await upload(client, []).code() == "media_empty")
            #expect(try await form(client, "image", Array("no picture".utf8)).code() == "input_image_format_unknown")
            #expect(try await form(client, "image", Array(file.prefix(file.count / 2))).code() == "input_image_corrupt")
            #expect(try await form(client, "video", file).code() == "source_unsupported")
            #expect(try await form(client, "prompt", file).code() == "field_repeated")
            #expect(try await client.create(#"{"prompt": "a boat"}"#).code() == "source_missing")
            for id in ["", "x", "-1", String(repeating: "0", count: 64) + "-9"] {
                let answer = try await client.create(#"{"prompt": "a boat", "image": "\#(id)"}"#)
                #expect(try answer.code() == "media_unknown", "\(id)")
            }
            #expect(try await form(client, "image", file).status == .ok)
        }
        #expect(await fixture.service.submitted.count == 1)
    }
}
