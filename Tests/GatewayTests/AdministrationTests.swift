import Bus
import Failure
import FoundationEssentials
import GatewayService
import Hummingbird
import HummingbirdTesting
import NIOCore
import Request
import Tensor
import Testing
import Wire

@Suite("Draining, dead jobs and encoding again over HTTP")
struct AdministrationTests {
    private func dead(_ number: Int, incidents: [Incident] = []) -> DeadJob {
        DeadJob(
            job: "video_\(number)", state: .dead, finishedUnixMilliseconds: 1_700_000_000_000,
            errorCode: "worker_lost", errorMessage: "three workers", task: "denoise", stage: "denoiser", attempts: 3,
            crashes: 3, checkpointStep: 12, incidents: incidents)
    }

    @Test("workers are listed, drained by name or stage, and an order that names nobody or several is refused")
    func drain() async throws {
        let fixture = try GatewayFixture(service: FakeJobService(workers: GatewayFixture.completeCluster))
        try await fixture.test { client in
            struct List: Decodable {
                struct Worker: Decodable {
                    var name: String
                    var stages: [String]
                    var draining: Bool
                }
                var data: [Worker]
                var draining: Bool
            }
            let list = try await client.get("/v1/workers").decoded(List.self)
            #expect(list.data.count == GatewayFixture.completeCluster.count && !list.draining)
            struct Answer: Decodable {
                var workers: [String]
                var broker: Bool
            }
            let answer = try await client.post("/v1/drain", #"{"stage": "denoiser"}"#)
            #expect(
                try answer.decoded(Answer.self).workers == list.data.filter { $0.stages == ["denoiser"] }.map(\.name))
            #expect(try await client.post("/v1/drain", #"{"broker": true}"#).decoded(Answer.self).broker)
            for (body, code) in [
                ("{}", "drain_ambiguous"), (#"{"worker": "a", "stage": "b"}"#, "drain_ambiguous"),
                (#"{"worker": "a", "resume": true}"#, "drain_ambiguous"), ("[", "body_not_json"),
                (#"{"worker": "nobody"}"#, "worker_not_found"),
            ] {
                #expect(try await client.post("/v1/drain", body).code() == code, "\(body)")
            }
        }
        let orders = await fixture.service.drains
        #expect(orders.prefix(2) == [Drain(stage: "denoiser"), Drain(broker: true)])
    }

    @Test("a worker's ready weights are listed with the adapters' names where the latest jobs tell them")
    func readyWeights() async throws {
        let uses = [
            AdapterUse(name: "dusk", weight: 0.5, digest: "d1"), AdapterUse(name: "off", weight: 0, digest: "d2"),
        ]
        let worker = ClusterStatus.Worker(
            worker: "painter", capabilities: [Capability(stage: "denoiser", model: "m")], slots: 1, busy: 0,
            millisecondsSinceBeat: 3, warm: ["bfloat16", "bfloat16+\(uses.identity)", "int8+0123456789abcdef"])
        let fixture = try GatewayFixture(service: FakeJobService(workers: [worker]))
        var draft = RequestDraft()
        draft.prompt = "a sun"
        var request = try draft.resolved(for: fixture.traits)
        request.loras = uses
        let specification = try CanonicalJSON.encode(request)
        await fixture.service.add(
            JobStatus(
                job: "video_9", state: .done, revision: 1, createdUnixMilliseconds: 1, finishedUnixMilliseconds: 2,
                priority: 0, queuePosition: 0, remainingMilliseconds: 0, specification: specification, tasks: [],
                outputs: [], errorCode: "", errorMessage: ""))
        try await fixture.test { client in
            let list = try await client.get("/v1/workers").decoded(WorkerList.self)
            let warm = try #require(list.data.first?.warm)
            #expect(warm.map(\.dtype) == ["bfloat16", "bfloat16", "int8"])
            #expect(warm[0].adapters == nil && warm[0].loras?.isEmpty == true)
            #expect(warm[1].loras?.map(\.name) == ["dusk"] && warm[1].loras?.first?.weight == 0.5)
            #expect(warm[2].loras == nil && warm[2].adapters == "0123456789ab")
        }
    }

    private struct WorkerList: Decodable {
        struct Worker: Decodable { let warm: [Warm] }
        struct Warm: Decodable {
            struct Use: Decodable {
                let name: String
                let weight: Double
            }
            let dtype: String
            let loras: [Use]?
            let adapters: String?
        }
        let data: [Worker]
    }

    /// Every request of administrators.
    private static let administration: [(HTTPRequest.Method, String, String)] = [
        (.post, "/v1/drain", #"{"broker": true}"#), (.get, "/v1/dead", ""), (.get, "/v1/dead/video_0", ""),
        (.post, "/v1/dead/video_0/retry", ""),
    ]

    @Test("where the bus has keys, administration takes the token; without one nobody administrates")
    func token() async throws {
        let token = AdminToken.generate()
        let wrong = ["", "Bearer \(AdminToken.generate().text)", "Basic \(token.text)", token.text]
        let fixture = try GatewayFixture(administration: .token(token))
        await fixture.service.add(dead: [dead(0)])
        try await fixture.test { client in
            for (method, path, body) in Self.administration {
                for authorization in wrong {
                    let answer = try await client.execute(
                        uri: path, method: method, headers: [.authorization: authorization],
                        body: ByteBuffer(string: body)
                    ) { $0 }
                    #expect(answer.status == .unauthorized && answer.headers[.wwwAuthenticate] == "Bearer", "\(path)")
                    #expect(try answer.code() == "admin_token_required")
                }
                let answer = try await client.execute(
                    uri: path, method: method, headers: [.authorization: "bearer \(token.text)"],
                    body: ByteBuffer(string: body)
                ) { $0 }
                #expect(answer.status == .ok, "\(path): \(answer.text)")
            }
            // Jobs and the list of workers are for everybody.
            #expect(try await client.get("/v1/workers").status == .ok)
            #expect(try await client.create(#"{"prompt": "a"}"#).status == .ok)
            let metrics = try await client.get("/metrics").text
            #expect(metrics.contains("zoetrope_admin_refusals_total \(Self.administration.count * wrong.count)\n"))
        }
        let closed = try GatewayFixture(administration: .closed)
        try await closed.test { client in
            for (method, path, body) in Self.administration {
                let answer = try await client.execute(
                    uri: path, method: method, headers: [.authorization: "Bearer \(token.text)"],
                    body: ByteBuffer(string: body)
                ) { $0 }
                #expect(try answer.status == .forbidden && answer.code() == "admin_disabled", "\(path)")
            }
        }
        #expect(await closed.service.drains.isEmpty)
    }

    @Test("a gateway whose own key may not administrate passes the broker's refusal on")
    func forbidden() async throws {
        let fixture = try GatewayFixture()
        await fixture.service.fail(with: Failure("forbidden", "a gateway may not send DRAIN"))
        try await fixture.test { client in
            let answer = try await client.post("/v1/drain", #"{"broker": true}"#)
            #expect(try answer.status == .forbidden && answer.code() == "forbidden")
        }
    }

    @Test("dead jobs are listed over several pages, shown with their evidence, and retried as a new job")
    func deadJobs() async throws {
        let fixture = try GatewayFixture()
        let incident = Incident(
            task: "denoise", kind: "expired", code: "worker_lost", message: "gone", worker: "w", numerics: "n",
            processEnd: "signal 9", step: 7, fence: 3, grantedUnixMilliseconds: 1000, endedUnixMilliseconds: 2000,
            isQuarantined: true)
        await fixture.service.add(dead: [dead(0, incidents: [incident])] + (1..<20).map { dead($0) })
        try await fixture.test { client in
            struct Dead: Decodable {
                struct Incident: Decodable {
                    var process_end: String
                    var step: Int
                    var quarantined: Bool
                    var ended_unix_ms: Int
                }
                var id: String
                var state: String
                var checkpoint_step: Int
                var incidents: [Incident]
            }
            struct Page: Decodable {
                var data: [Dead]
                var has_more: Bool
            }
            let page = try await client.get("/v1/dead?limit=18").decoded(Page.self)
            #expect(page.data.map(\.id) == (0..<18).map { "video_\($0)" } && page.has_more)
            let one = try await client.get("/v1/dead/video_0").decoded(Dead.self)
            #expect(one.state == "dead" && one.checkpoint_step == 12)
            #expect(one.incidents.first?.process_end == "signal 9" && one.incidents.first?.step == 7)
            #expect(one.incidents.first?.quarantined == true && one.incidents.first?.ended_unix_ms == 2000)
            let retry = try await client.post("/v1/dead/video_0/retry", "")
            #expect(retry.status == .ok && retry.headers[.location] == "/v1/videos/video_retry")
            #expect(try await client.get("/v1/dead/video_99").status == .conflict)
        }
    }

    @Test("a video is encoded again by decoding and muxing the latents its job has left")
    func reencode() async throws {
        let fixture = try GatewayFixture()
        let service = fixture.service
        try await fixture.test { client in
            let id = try await client.create(#"{"prompt": "a", "seed": 3}"#).video().id
            let path = "/v1/videos/\(id)/reencode"
            #expect(try await client.post(path, #"{"container": "webm"}"#).code() == "latents_absent")
            let latents = TensorRef(digest: Digest.of([1]), dtype: .float32, shape: [1, 2, 4, 6, 8], locations: [])
            await service.update(id) { $0.outputs = [NamedRef(name: "denoise.latents", ref: latents)] }
            let answer = try await client.post(path, #"{"container": "webm", "fps": 16}"#)
            #expect(answer.status == .ok, "\(answer.text)")
            let submit = try #require(await service.submitted.last)
            #expect(submit.tasks.map(\.name) == ["decode", "mux"])
            #expect(submit.tasks.first?.inputs == [TaskInput(name: "latents", source: .blob(latents))])
            #expect(submit.tasks.last?.parameters.contains("webm") == true)
            for (body, code) in [
                (#"{"container": "avi"}"#, "container_unknown"), (#"{"fps": 0}"#, "fps_out_of_range"),
                (#"{"seed": 4}"#, "reencode_fixed"), (#"{"colour": 1}"#, "unknown_field"),
            ] {
                #expect(try await client.post(path, body).code() == code, "\(body)")
            }
        }
    }
}
