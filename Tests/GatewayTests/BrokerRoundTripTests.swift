import BrokerService
import Bus
import Checkpoint
import DemoModel
import Failure
import FoundationEssentials
import GatewayService
import Hummingbird
import HummingbirdTesting
import Request
import Runtime
import Testing
import Wire

@Suite("The gateway and a real broker on a real bus", .serialized)
struct BrokerRoundTripTests {
    /// A broker in this process with a folder of its own, and a gateway in front of it.
    private struct House {
        let directory: String
        let settings: BrokerSettings
        let loop: BusLoop
        let service: BusJobService
        let gateway: Gateway
        let modelDigest = GatewayFixture.modelDigest

        init(timeout: Duration = .seconds(20)) throws {
            directory = "/tmp/zg-\(UUID().uuidString.prefix(13))"
            settings = BrokerSettings(
                runDirectory: try RunDirectory(path: directory + "/run"), dataDirectory: directory + "/data")
            loop = try BusLoop(name: "test-bus")
            service = BusJobService(
                loop: loop, endpoint: settings.localEndpoint, runDirectory: settings.runDirectory, timeout: timeout)
            let traits = try ModelTraits(folder: ModelFolder(path: DemoModel.path()), digest: modelDigest)
            gateway = Gateway(service: service, traits: traits)
        }

        func broker() -> Broker { Broker(settings: settings, logger: GatewayFixture.silent) }

        func worker() async throws -> ScriptedWorker {
            let worker = try ScriptedWorker(
                loop: loop, endpoint: settings.localEndpoint, runDirectory: settings.runDirectory,
                modelDigest: modelDigest)
            await worker.begin()
            return worker
        }

        func test(_ body: @Sendable @escaping (any TestClientProtocol) async throws -> Void) async throws {
            try await Application(router: gateway.router(), logger: GatewayFixture.silent).test(.router, body)
        }

        func remove() async {
            await service.close()
            await loop.shutdown()
            try? FileManager.default.removeItem(atPath: directory)
        }
    }

    @Test("a prompt goes through every stage and its video comes back, and its key replays it", .timeLimit(.minutes(1)))
    func wholeJob() async throws {
        let house = try House()
        let broker = house.broker()
        try await broker.start()
        let worker = try await house.worker()
        let key = try #require(HTTPFields.Element.Name("Idempotency-Key"))
        try await house.test { client in
            let created = try await client.create(#"{"prompt": "a boat"}"#, headers: [key: "once"]).video()
            #expect(created.id.hasPrefix("video_") && created.id.count == 38)
            let events = try await client.get("/v1/videos/\(created.id)/events").text
            #expect(events.contains("\"status\":\"completed\""))
            let done = try await client.get("/v1/videos/\(created.id)").video()
            #expect(done.status == "completed" && done.progress == 100 && done.seed == created.seed)
            #expect(done.x_stages.map(\.state) == ["done", "done", "done", "done"])
            #expect(done.x_stages.allSatisfy { $0.worker == "scripted-1" })
            #expect(done.x_stages[1].notes.contains("scripted denoiser"))
            let video = try await client.get("/v1/videos/\(created.id)/content")
            #expect(Array(buffer: video.body) == ScriptedWorker.video)
            let part = try await client.get("/v1/videos/\(created.id)/content", headers: [.range: "bytes=-100"])
            #expect(Array(buffer: part.body) == Array(ScriptedWorker.video.suffix(100)))
            let thumbnail = try await client.get("/v1/videos/\(created.id)/content?variant=thumbnail")
            #expect(Array(buffer: thumbnail.body) == ScriptedWorker.thumbnail)
            let again = try await client.create(#"{"prompt": "a boat"}"#, headers: [key: "once"])
            #expect(try again.video().id == created.id && again.header("Idempotent-Replayed") == "true")
            let other = try await client.create(#"{"prompt": "a ship"}"#, headers: [key: "once"])
            #expect(other.status == .conflict)
            #expect(try await client.get("/healthz").status == .ok)
        }
        await worker.end()
        await broker.stop()
        await house.remove()
    }

    @Test("jobs that wait for workers survive the broker's restart and can be cancelled", .timeLimit(.minutes(1)))
    func restart() async throws {
        let house = try House()
        let first = house.broker()
        try await first.start()
        try await house.test { client in
            let id = try await client.create(#"{"prompt": "a boat"}"#).video().id
            #expect(try await client.get("/healthz").status == .serviceUnavailable)
            await first.stop()
            let second = house.broker()
            try await second.start()
            let kept = try await client.get("/v1/videos/\(id)").video()
            #expect(kept.status == "queued" && kept.prompt == "a boat")
            #expect(try await client.get("/v1/videos/\(id)/content").code() == "content_not_ready")
            #expect(try await client.delete("/v1/videos/\(id)").text.contains("\"deleted\":true"))
            #expect(try await client.get("/v1/videos/\(id)").video().error?.code == "cancelled")
            #expect(try await client.get("/v1/videos/\(id)/content").status == .unprocessableContent)
            #expect(try await client.get("/v1/videos/video_0").code() == "job_not_found")
            #expect(try await client.get("/v1/videos").text.contains(id))
            await second.stop()
        }
        await house.remove()
    }

    @Test("without a broker every answer is 503 and the gateway stays up")
    func noBroker() async throws {
        let house = try House(timeout: .milliseconds(100))
        try await house.test { client in
            let answer = try await client.create(#"{"prompt": "a boat"}"#)
            #expect(answer.status == .serviceUnavailable)
            #expect(try answer.code() == "broker_unreachable")
            #expect(try await client.get("/healthz").status == .serviceUnavailable)
            #expect(try await client.get("/").status == .ok)
        }
        await house.remove()
    }
}
