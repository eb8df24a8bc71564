import Foundation
import Testing

extension EndToEnd {
    @Suite("A deadline ends a job, and a retry goes on from there")
    struct DeadlineTests {
        struct Record: Decodable {
            let x_deadline_at: Int?
            let completed_at: Int?
            let error: Video.Problem?
        }

        /// Too much for its deadline on any machine.
        static let endless = CrashTests.request
            .replacing("\"num_inference_steps\": 10", with: "\"num_inference_steps\": 1000")
            .replacing("\"num_frames\": 9", with: "\"num_frames\": 49")

        @Test("one that passes while the job is denoised: stopped, kept, told; one that cannot be kept is refused")
        func passes() async throws {
            try await withCluster { cluster in
                let answer = try await cluster.post(Self.endless, headers: ["Zoetrope-Deadline": "4"])
                try #require(answer.status == 200, "\(answer.text)")
                let id = try JSONDecoder().decode(Video.self, from: answer.body).id
                let at = try #require(try JSONDecoder().decode(Record.self, from: answer.body).x_deadline_at)
                #expect(abs(Double(at) - Date().timeIntervalSince1970 - 4) < 3)
                let shown = try await cluster.zoetrope(["status", id])
                #expect(shown.output.contains("  deadline 20"), "\(shown.everything)")

                let ended = try await cluster.wait(id) { $0.isTerminal }
                #expect(ended.error?.code == "deadline_exceeded", "\(ended)")
                let stage = try #require(ended.stage("denoiser"))
                #expect(stage.state == "cancelled" && stage.step > 0, "\(ended)")

                // The denoiser is free for the next job at its next step.
                let next = try await cluster.submit(CrashTests.request).id
                #expect(try await cluster.wait(next) { $0.isTerminal }.status == "completed")

                // Its times are known now.
                let hopeless = try await cluster.zoetrope([
                    "submit", "a boat", "--num-inference-steps", "1000", "--deadline", "1s",
                ])
                #expect(hopeless.status != 0, "\(hopeless.everything)")
                #expect(hopeless.everything.contains("deadline_unreachable"), "\(hopeless.everything)")
                #expect(hopeless.everything.contains("its deadline is in 1 s"), "\(hopeless.everything)")

                let retried = try await cluster.zoetrope(["dead", "retry", id])
                let again = retried.output.trimmingCharacters(in: .whitespacesAndNewlines)
                let running = try await cluster.wait(again) { ($0.stage("denoiser")?.step ?? 0) > 0 || $0.isTerminal }
                #expect(!running.isTerminal && running.stage("denoiser")?.step ?? 0 >= 1, "\(running)")
                #expect(try await cluster.zoetrope(["cancel", again]).status == 0)
            }
        }

        @Test("a broker that is killed comes back to the same deadline")
        func outlivesTheBroker() async throws {
            try await withCluster { cluster in
                let answer = try await cluster.post(Self.endless, headers: ["Zoetrope-Deadline": "10"])
                try #require(answer.status == 200, "\(answer.text)")
                let id = try JSONDecoder().decode(Video.self, from: answer.body).id
                let at = try #require(try JSONDecoder().decode(Record.self, from: answer.body).x_deadline_at)
                kill(try cluster.processIdentifier("zoetrope-broker"), SIGKILL)
                let limit = ContinuousClock.now + .seconds(60)
                var last: Record?
                while last?.error == nil {
                    try #require(ContinuousClock.now < limit, "\(cluster.log.suffix(4000))")
                    try await Task.sleep(for: .milliseconds(50))
                    guard let now = try? await cluster.request("GET", "/v1/videos/\(id)"), now.status == 200 else {
                        continue
                    }
                    last = try JSONDecoder().decode(Record.self, from: now.body)
                }
                #expect(last?.error?.code == "deadline_exceeded")
                let ended = try #require(last?.completed_at), told = try #require(last?.x_deadline_at)
                #expect((at - 1...at + 1).contains(told))
                #expect((at - 1...at + 4).contains(ended), "\(ended - at) s after the deadline")
            }
        }
    }
}
