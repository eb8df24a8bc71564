import Failure
import GatewayService
import Hummingbird
import HummingbirdTesting
import NIOCore
import Request
import Tensor
import Testing
import Wire

@Suite("tensor routes")
struct TensorRouteTests {
    private struct Stored: Decodable {
        var id: String
        var shape: [Int]
    }

    private func body(_ tensors: [(String, Tensor)]) -> ByteBuffer {
        SafetensorsWriter.encode(tensors).withUnsafeBytes { ByteBuffer(bytes: $0) }
    }

    private func upload(_ client: any TestClientProtocol, _ body: ByteBuffer) async throws -> TestResponse {
        try await client.execute(uri: "/v1/tensors", method: .post, headers: [:], body: body) { $0 }
    }

    @Test("uploaded noise starts a job and becomes an input of its denoise task") func initialLatents() async throws {
        let fixture = try GatewayFixture()
        let shape = fixture.traits.latentShape(
            width: fixture.traits.nativeWidth, height: fixture.traits.nativeHeight,
            numFrames: fixture.traits.nativeFrames)
        let noise = Tensor(zeros: shape).converted(to: .bfloat16)
        try await fixture.test { client in
            let stored = try await upload(client, body([("noise", noise)])).decoded(Stored.self)
            #expect(stored.shape == shape)
            let created = try await client.create(#"{"prompt": "a hill", "init_latents": "\#(stored.id)"}"#)
            #expect(created.status == .ok)
        }
        let denoise = try #require(await fixture.service.submitted.first?.tasks.first { $0.name == "denoise" })
        let input = try #require(denoise.inputs.first { $0.name == "init_latents" })
        guard case .blob(let ref) = input.source else {
            Issue.record("init_latents is not a blob")
            return
        }
        #expect(ref.shape == shape && ref.dtype == .float32)
    }

    @Test("noise that nobody uploaded is refused before there is a job") func unknownLatents() async throws {
        let fixture = try GatewayFixture()
        try await fixture.test { client in
            for id in ["", "x", String(repeating: "0", count: 64)] {
                let answer = try await client.create(#"{"prompt": "a hill", "init_latents": "\#(id)"}"#)
                #expect(answer.status == .badRequest)
                #expect(try answer.code() == "init_latents_unknown")
            }
        }
        #expect(await fixture.service.submitted.isEmpty)
    }

    @Test("files that are no single finite tensor are refused with their own codes") func wrongUploads() async throws {
        let fixture = try GatewayFixture()
        let one = Tensor([1], shape: [1])
        try await fixture.test { client in
            let wrong: [(ByteBuffer, String)] = [
                (ByteBuffer(string: "no safetensors"), "corrupt_safetensors"),
                (body([("a", one), ("b", one)]), "tensor_ambiguous"),
                (body([("a", Tensor(ids: [1], shape: [1]))]), "tensor_not_floating"),
                (body([("a", Tensor([.infinity], shape: [1]))]), "tensor_not_finite"),
            ]
            for (body, code) in wrong {
                let answer = try await upload(client, body)
                #expect(answer.status == .badRequest)
                #expect(try answer.code() == code)
            }
        }
    }

    @Test("a stored tensor comes back under its output's name, and an unknown name lists the known ones")
    func download() async throws {
        let fixture = try GatewayFixture()
        let latents = Tensor([1, 2, 3, 4, 5, 6], shape: [1, 2, 3])
        let ref = try await fixture.service.store(latents)
        try await fixture.test { client in
            let job = try await client.create(#"{"prompt": "a hill"}"#).video().id
            await fixture.service.update(job) { $0.outputs = [NamedRef(name: "denoise.latents", ref: ref)] }
            let answer = try await client.get("/v1/videos/\(job)/tensors/denoise.latents")
            let file = try SafetensorsFile(bytes: Tensor(bytes: Array(buffer: answer.body)))
            #expect(file.names == ["latents"])
            #expect(try file.tensor("latents").floats() == [1, 2, 3, 4, 5, 6])
            #expect(try file.tensor("latents").shape == [1, 2, 3])
            let missing = try await client.get("/v1/videos/\(job)/tensors/denoise.noise")
            #expect(missing.status == .notFound)
            #expect(try missing.code() == "tensor_not_found")
        }
    }
}
