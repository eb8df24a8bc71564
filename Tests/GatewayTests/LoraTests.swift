import Checkpoint
import Failure
import Foundation
import GatewayService
import Hummingbird
import HummingbirdTesting
import Request
import Tensor
import Testing
import Wire

@Suite("Adapters over HTTP")
struct LoraTests {
    private static let layer = "transformer_blocks.0.attn1.to_q"

    /// Runs `body` with a gateway whose folder of adapters holds `style` and `broken`.
    private func withAdapters(
        _ body: @Sendable @escaping (any TestClientProtocol, GatewayFixture) async throws -> Void
    ) async throws {
        let path = FileManager.default.temporaryDirectory.path + "/zoetrope-\(UUID().uuidString)"
        try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(atPath: path) }
        try SafetensorsWriter.write(
            tensors: [
                "transformer.\(Self.layer).lora_A.weight": Tensor([1, 2, 3, 4, 5, 6], shape: [2, 3]),
                "transformer.\(Self.layer).lora_B.weight": Tensor([1, 2, 3, 4, 5, 6, 7, 8], shape: [4, 2]),
            ], to: "\(path)/style.safetensors")
        try Data("nothing".utf8).write(to: URL(filePath: "\(path)/broken.safetensors"))
        let library = try AdapterLibrary(path: path, shapes: ["\(Self.layer).weight": [4, 3]])
        let fixture = try GatewayFixture(adapters: library)
        try await fixture.test { client in try await body(client, fixture) }
    }

    private func body(_ loras: String) -> String { "{\"prompt\": \"a boat\", \"seed\": 1, \"loras\": \(loras)}" }

    @Test("the digest goes into the task, and what the file does not say into the notes")
    func submits() async throws {
        try await withAdapters { client, fixture in
            let answer = try await client.create(body(#"[{"name": "style", "weight": 0.5}]"#))
            #expect(answer.status == .ok, "\(answer.text)")
            let request = try #require(try answer.video().x_request)
            let use = try #require(request.loras?.first)
            #expect(use.name == "style" && use.weight == 0.5 && use.digest.count == 64)
            #expect(request.notes.contains { $0.hasPrefix("lora style: the file does not say its alpha") })
            let task = try #require(await fixture.service.submitted.first?.tasks.first { $0.name == "denoise" })
            #expect(task.parameters.contains(use.digest) && task.affinity.hasPrefix("float32+"))
        }
    }

    @Test("what cannot be used is 400 before there is a job")
    func refusals() async throws {
        try await withAdapters { client, fixture in
            for (loras, code) in [
                (#"[{"name": "absent"}]"#, "adapter_not_found"), (#"[{"name": "broken"}]"#, "corrupt_safetensors"),
                (#"[{"path": "../style"}]"#, "adapter_name_invalid"), (#""style""#, "wrong_type"),
                (#"[{"name": "style", "weight": 1e9}]"#, "adapter_weight_out_of_range"),
            ] {
                let answer = try await client.create(body(loras))
                #expect(answer.status == .badRequest, "\(loras)")
                #expect(try answer.code() == code, "\(loras)")
            }
            #expect(await fixture.service.submitted.isEmpty)
            #expect(try await client.create(body("[]")).status == .ok)
        }
    }

    @Test("the list tells what there is, and what is unusable and why")
    func list() async throws {
        struct Page: Decodable {
            struct Entry: Decodable {
                let name: String
                let format: String
                let layers: Int
                let rank: Int
                let scales: [Double]
                let digest: String
                let warnings: [String]
            }
            struct Problem: Decodable {
                let name: String
                let code: String
            }
            let data: [Entry]
            let unusable: [Problem]
        }
        try await withAdapters { client, _ in
            let page = try await client.get("/v1/loras").decoded(Page.self)
            let entry = try #require(page.data.first)
            #expect(page.data.count == 1 && entry.name == "style.safetensors" && entry.format == "diffusers")
            #expect(entry.layers == 1 && entry.rank == 2 && entry.scales == [1] && entry.warnings.count == 1)
            #expect(page.unusable.map(\.name) == ["broken.safetensors"])
            #expect(page.unusable.map(\.code) == ["corrupt_safetensors"])
        }
    }

    @Test("without a folder every adapter is refused, and the list too")
    func without() async throws {
        let fixture = try GatewayFixture()
        try await fixture.test { client in
            let refused = try await client.create(body(#"[{"name": "style"}]"#))
            #expect(try refused.code() == "adapters_unavailable")
            let list = try await client.get("/v1/loras")
            #expect(try list.code() == "adapters_unavailable")
            #expect(try await client.create(body("null")).status == .ok)
        }
    }
}
