import Failure
import FoundationEssentials
import Hummingbird
import HummingbirdTesting
import NIOCore
import Request
import Testing
import Wire

@Suite("Videos are made, read, listed and deleted as OpenAI's clients expect")
struct VideoRouteTests {
    @Test("a prompt as JSON is queued and answered with a whole Video object")
    func create() async throws {
        let fixture = try GatewayFixture()
        try await fixture.test { client in
            let answer = try await client.create(#"{"prompt": "a boat", "seed": 7, "num_frames": 9}"#)
            #expect(answer.status == .ok)
            let video = try answer.video()
            #expect(video.id.hasPrefix("video_") && video.id.count == 38)
            #expect(answer.header("Location") == "/v1/videos/\(video.id)")
            #expect(video.object == "video" && video.status == "queued" && video.progress == 0)
            #expect(video.model == "cogvideox-demo" && video.size == "96x96" && video.seconds == "1")
            #expect(video.prompt == "a boat" && video.seed == 7)
            #expect(video.created_at == 1_700_000_000 && video.completed_at == nil && video.error == nil)
            #expect(video.x_stage == "text-encoder")
            #expect(video.x_stages.map(\.state) == ["ready", "blocked", "blocked", "blocked"])
            #expect(video.x_request?.numFrames == 9)
        }
        #expect(await fixture.service.submitted.count == 1)
    }

    @Test("a multipart form is read like JSON")
    func multipart() async throws {
        let fixture = try GatewayFixture()
        try await fixture.test { client in
            let body = [
                "--abc", "Content-Disposition: form-data; name=\"prompt\"", "", "a boat; \"quoted\"\r\nsecond line",
                "--abc", "Content-Disposition: form-data; name=\"seconds\"", "Content-Type: text/plain", "", "2",
                "--abc", "content-disposition: form-data; name=size", "", "64x96", "--abc--", "",
            ].joined(separator: "\r\n")
            let answer = try await client.execute(
                uri: "/v1/videos", method: .post, headers: [.contentType: "multipart/form-data; boundary=\"abc\""],
                body: ByteBuffer(string: body)
            ) { $0 }
            let video = try answer.video()
            #expect(video.prompt == "a boat; \"quoted\"\r\nsecond line")
            #expect(video.size == "64x96" && video.seconds == "2")
            #expect(video.x_request?.numFrames == 17)
        }
    }

    @Test("running, finished, failed and cancelled jobs read as OpenAI's four states")
    func states() async throws {
        let fixture = try GatewayFixture()
        try await fixture.test { client in
            let id = try await client.create(#"{"prompt": "a boat"}"#).video().id
            await fixture.service.update(id) { status in
                status.state = .running
                status.queuePosition = 0
                status.remainingMilliseconds = 4200
                status.tasks[0].state = .done
                status.tasks[1] = TaskStatus(
                    name: "denoise", stage: "denoiser", state: .leased, worker: "denoiser-2", attempt: 1, step: 10,
                    totalSteps: 25, elapsedMilliseconds: 900, remainingMilliseconds: 1350, notes: ["resumed at step 4"])
            }
            let running = try await client.get("/v1/videos/\(id)").video()
            #expect(running.status == "in_progress" && running.x_stage == "denoiser" && running.x_eta_ms == 4200)
            #expect(running.progress == 33, "3 for the text encoder and 10 of 25 steps of 75, of 98")
            #expect(running.x_stages[1].worker == "denoiser-2" && running.x_stages[1].step == 10)
            #expect(running.x_stages[1].remaining_ms == 1350 && running.x_stages[1].notes == ["resumed at step 4"])

            try await fixture.finish(id, video: [1, 2, 3])
            let done = try await client.get("/v1/videos/\(id)").video()
            #expect(done.status == "completed" && done.progress == 100 && done.completed_at == 1_700_000_042)
            #expect(done.x_stage == nil && done.x_eta_ms == nil)

            let second = try await client.create(#"{"prompt": "a boat"}"#).video().id
            await fixture.service.update(second) { status in
                status.state = .failed
                status.errorCode = "tensor_not_finite"
                status.errorMessage = "NaN in latents"
            }
            let failed = try await client.get("/v1/videos/\(second)").video()
            #expect(failed.status == "failed" && failed.error?.code == "tensor_not_finite")

            let third = try await client.create(#"{"prompt": "a boat"}"#).video().id
            #expect(try await client.delete("/v1/videos/\(third)").status == .ok)
            let cancelled = try await client.get("/v1/videos/\(third)").video()
            #expect(cancelled.status == "failed" && cancelled.error?.code == "cancelled")
        }
    }

    @Test("the tiles of a clip share the decoder's part of the progress")
    func tiles() async throws {
        let fixture = try GatewayFixture()
        try await fixture.test { client in
            let id = try await client.create(#"{"prompt": "a boat", "vae_tiling": true}"#).video().id
            await fixture.service.update(id) { status in
                status.state = .running
                let done = TaskStatus(
                    name: "encode", stage: "text-encoder", state: .done, worker: "w", attempt: 1, step: 0,
                    totalSteps: 0, elapsedMilliseconds: 0, remainingMilliseconds: 0, notes: [])
                var denoise = done
                (denoise.name, denoise.stage) = ("denoise", "denoiser")
                var tile = denoise
                (tile.name, tile.stage) = ("decode.0.0", "vae-decoder")
                var running = tile
                (running.name, running.state, running.step, running.totalSteps) = ("decode.0.1", .leased, 1, 2)
                var mux = tile
                (mux.name, mux.stage, mux.state) = ("mux", "video-muxer", .blocked)
                status.tasks = [done, denoise, tile, running, mux]
            }
            let video = try await client.get("/v1/videos/\(id)").video()
            #expect(video.progress == 93, "3 and 75, one tile of two and half of the other, of 98: 91.5")
        }
    }

    @Test("pages follow each other by after, newest first, and say whether there is more")
    func list() async throws {
        struct Page: Decodable {
            var object: String
            var data: [ReadVideo]
            var first_id: String?
            var last_id: String?
            var has_more: Bool
        }
        let fixture = try GatewayFixture()
        try await fixture.test { client in
            let empty = try await client.get("/v1/videos").decoded(Page.self)
            #expect(empty.object == "list" && empty.data.isEmpty && !empty.has_more && empty.first_id == nil)
            var ids: [String] = []
            for index in 0..<40 { ids.append(try await client.create("{\"prompt\": \"boat \(index)\"}").video().id) }
            let newestFirst = Array(ids.reversed())
            let first = try await client.get("/v1/videos?limit=25").decoded(Page.self)
            #expect(first.data.map(\.id) == Array(newestFirst[..<25]), "more than one page of the broker's")
            #expect(first.has_more && first.first_id == newestFirst[0] && first.last_id == newestFirst[24])
            let rest = try await client.get("/v1/videos?limit=25&after=\(newestFirst[24])").decoded(Page.self)
            #expect(rest.data.map(\.id) == Array(newestFirst[25...]))
            #expect(!rest.has_more)
            #expect(try await client.get("/v1/videos?order=desc").decoded(Page.self).data.count == 20)
        }
    }

    @Test("deleting stops a job that runs; a finished one stays and the answer says so")
    func delete() async throws {
        struct Deletion: Decodable {
            var id: String
            var object: String
            var deleted: Bool
            var x_state: String?
        }
        let fixture = try GatewayFixture()
        try await fixture.test { client in
            let id = try await client.create(#"{"prompt": "a boat"}"#).video().id
            let first = try await client.delete("/v1/videos/\(id)").decoded(Deletion.self)
            #expect(first.id == id && first.object == "video.deleted" && first.deleted)
            #expect(try await client.delete("/v1/videos/\(id)").decoded(Deletion.self).deleted, "again is the same")
            let other = try await client.create(#"{"prompt": "a boat"}"#).video().id
            try await fixture.finish(other, video: [1])
            let late = try await client.delete("/v1/videos/\(other)").decoded(Deletion.self)
            #expect(!late.deleted && late.x_state == "done")
        }
    }

    @Test("the same idempotency key replays the first job and refuses another body")
    func idempotency() async throws {
        let fixture = try GatewayFixture()
        let name = try #require(HTTPFields.Element.Name("Idempotency-Key"))
        try await fixture.test { client in
            let first = try await client.create(#"{"prompt": "a boat"}"#, headers: [name: "k1"])
            let again = try await client.create(#"{"prompt": "a boat"}"#, headers: [name: "k1"])
            #expect(try first.video().id == again.video().id)
            #expect(first.header("Idempotent-Replayed") == nil)
            #expect(again.header("Idempotent-Replayed") == "true")
            let other = try await client.create(#"{"prompt": "a ship"}"#, headers: [name: "k1"])
            #expect(other.status == .conflict)
            #expect(try other.code() == "key_reused_with_other_body")
            let long = try await client.create(#"{"prompt": "a"}"#, headers: [name: String(repeating: "k", count: 129)])
            #expect(try long.code() == "idempotency_key_invalid")
        }
        #expect(await fixture.service.submitted.map(\.idempotencyKey) == ["k1"])
    }

    @Test("an upsampler is used where one serves; otherwise the job notes that the prompt is unchanged")
    func upsampler() async throws {
        let without = try GatewayFixture()
        try await without.test { client in
            let video = try await client.create(#"{"prompt": "a boat", "upsample_prompt": true}"#).video()
            #expect(video.x_stages.first?.stage == "text-encoder")
            #expect(video.x_request?.notes.contains { $0.hasPrefix("prompt_unchanged") } == true)
        }
        let with = try GatewayFixture(
            service: FakeJobService(workers: [GatewayFixture.worker("prompt-upsampler", model: "")]))
        try await with.test { client in
            let video = try await client.create(#"{"prompt": "a boat", "upsample_prompt": true}"#).video()
            #expect(video.x_stages.first?.stage == "prompt-upsampler")
        }
    }
}
