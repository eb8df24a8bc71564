import Failure
import FoundationEssentials
import Hummingbird
import HummingbirdTesting
import Testing
import Wire

@Suite("The gateway tells people and machines how it is")
struct ServiceRouteTests {
    struct Health: Decodable {
        var status: String
        var missing: [String]
        var queued_jobs: Int
    }

    @Test("health is 200 when the broker answers and every stage has a worker for the model")
    func healthy() async throws {
        let fixture = try GatewayFixture(service: FakeJobService(workers: GatewayFixture.completeCluster))
        try await fixture.test { client in
            _ = try await client.create(#"{"prompt": "a"}"#)
            let answer = try await client.get("/healthz")
            #expect(answer.status == .ok)
            let health = try answer.decoded(Health.self)
            #expect(health.status == "ok" && health.missing.isEmpty && health.queued_jobs == 1)
        }
    }

    @Test("health is 503 naming the stages without a worker, and a worker of another model is none")
    func incomplete() async throws {
        var workers = Array(GatewayFixture.completeCluster.dropFirst(2))
        workers.append(GatewayFixture.worker("denoiser", model: String(repeating: "0", count: 64)))
        let fixture = try GatewayFixture(service: FakeJobService(workers: workers))
        try await fixture.test { client in
            let answer = try await client.get("/healthz")
            #expect(answer.status == .serviceUnavailable)
            #expect(try answer.decoded(Health.self).missing == ["text-encoder", "denoiser"])
        }
    }

    @Test("health is 503 when the broker does not answer")
    func unreachable() async throws {
        let fixture = try GatewayFixture()
        await fixture.service.fail(with: Failure("broker_unreachable", "No answer."))
        try await fixture.test { client in
            let answer = try await client.get("/healthz")
            #expect(answer.status == .serviceUnavailable)
            #expect(try answer.decoded(Health.self).status == "broker_unreachable")
        }
    }

    @Test("metrics count requests by route and status, jobs and workers")
    func metrics() async throws {
        let fixture = try GatewayFixture(service: FakeJobService(workers: GatewayFixture.completeCluster))
        try await fixture.test { client in
            let id = try await client.create(#"{"prompt": "a"}"#).video().id
            _ = try await client.get("/v1/videos/\(id)")
            _ = try await client.get("/v1/videos/video_0")
            _ = try await client.get("/nowhere")
            let text = try await client.get("/metrics").text
            for line in [
                "zoetrope_http_requests_total{method=\"POST\",route=\"/v1/videos\",status=\"200\"} 1",
                "zoetrope_http_requests_total{method=\"GET\",route=\"/v1/videos/{id}\",status=\"200\"} 1",
                "zoetrope_http_requests_total{method=\"GET\",route=\"/v1/videos/{id}\",status=\"404\"} 1",
                "zoetrope_http_requests_total{method=\"GET\",route=\"NotFound\",status=\"404\"} 1",
                "zoetrope_jobs_submitted_total 1", "zoetrope_jobs_queued 1", "zoetrope_broker_up 1",
                "zoetrope_workers{stage=\"denoiser\"} 1",
            ] {
                #expect(text.split(separator: "\n").contains(Substring(line)), "\(line)")
            }
            await fixture.service.fail(with: Failure("broker_unreachable", "No answer."))
            #expect(try await client.get("/metrics").text.contains("zoetrope_broker_up 0\n"))
        }
    }

    @Test("what the broker has turned away and its descriptors are metrics, and a full table of them is a note")
    func brokerCounts() async throws {
        let service = FakeJobService(workers: GatewayFixture.completeCluster)
        let fixture = try GatewayFixture(service: service)
        await service.count([
            .init(name: "refused_key", value: 3), .init(name: "refused_role", value: 2),
            .init(name: "handshakes_admitted", value: 7), .init(name: "sessions_revoked", value: 1),
            .init(name: "descriptors_used", value: 71), .init(name: "descriptors_limit", value: 100),
            .init(name: "a_later_release_counts_this", value: 9),
        ])
        try await fixture.test { client in
            let lines = try await client.get("/metrics").text.split(separator: "\n")
            for line in [
                "zoetrope_refusals_total{reason=\"key\"} 3", "zoetrope_refusals_total{reason=\"role\"} 2",
                "zoetrope_handshakes_total 7", "zoetrope_sessions_revoked_total 1",
                "zoetrope_descriptors_used{process=\"broker\"} 71",
                "zoetrope_descriptors_limit{process=\"broker\"} 100", "zoetrope_admin_refusals_total 0",
            ] {
                #expect(lines.contains(Substring(line)), "\(line)")
            }
            #expect(lines.contains { $0.hasPrefix("zoetrope_descriptors_used{process=\"gateway\"} ") })
            #expect(!lines.contains { $0.contains("later") })
            struct Noted: Decodable { var notes: [String] }
            for path in ["/healthz", "/v1/workers"] {
                let notes = try await client.get(path).decoded(Noted.self).notes
                #expect(
                    notes.count == 1 && notes[0].hasPrefix("the broker uses 71 of its 100 file descriptors (71 %)"),
                    "\(path): \(notes)")
            }
        }
    }

    @Test("the page is whole in itself and forbids everything from elsewhere")
    func page() async throws {
        let fixture = try GatewayFixture()
        try await fixture.test { client in
            let answer = try await client.get("/")
            #expect(answer.status == .ok)
            #expect(answer.header("Content-Type") == "text/html; charset=utf-8")
            #expect(answer.header("Content-Security-Policy")?.hasPrefix("default-src 'none'") == true)
            #expect(answer.text.contains("cogvideox-demo · 96×96, 17 frames, 25 steps"))
            #expect(!answer.text.contains("http://") && !answer.text.contains("https://"))
            #expect(!answer.text.contains("{{"))
        }
    }
}
