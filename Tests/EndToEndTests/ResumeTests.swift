import Foundation
import Testing

extension EndToEnd {
    /// SIGKILL at chosen steps: on the same arithmetic a resumed run ends in the bits of an unbroken one.
    @Suite("A denoise that was interrupted ends in the same bits")
    struct ResumeTests {
        /// So many steps that those after the last kill take longer than word of one needs to come.
        private static let long = CrashTests.request
            .replacing("\"num_inference_steps\": 10", with: "\"num_inference_steps\": 250")

        @Test("killed again and again, at one step after the other: the same latents", .timeLimit(.minutes(5)))
        func killedAtSeveralSteps() async throws {
            try await withCluster(workers: "denoiser=2", leaseSeconds: 5) { cluster in
                let reference = try await cluster.latents(of: cluster.submit(Self.long).id)
                for steps in [[1, 100], [25, 150], [60, 130]] {
                    let id = try await cluster.submit(Self.long).id
                    for (attempt, step) in zip(1..., steps) {
                        let running = try await cluster.wait(id) {
                            guard let stage = $0.stage("denoiser") else { return false }
                            return stage.isHeld && stage.attempt == attempt && stage.step >= step
                        }
                        let worker = try #require(running.stage("denoiser")?.worker)
                        kill(try cluster.processIdentifier("zoetrope-denoiser", name: worker), SIGKILL)
                    }
                    #expect(try await cluster.latents(of: id) == reference, "killed at steps \(steps)")
                    let stage = try #require(try await cluster.video(id).stage("denoiser"))
                    #expect(stage.attempt == steps.count + 1)
                    #expect(!stage.notes.contains { $0.contains("not bit-identical") })
                }
            }
        }

        @Test("a job that keeps the latents of every step resumes with all of them", .timeLimit(.minutes(3)))
        func withStepLatents() async throws {
            let request = Self.long.replacing("\"seed\": 7", with: "\"seed\": 7, \"keep_step_latents\": true")
            try await withCluster(workers: "denoiser=2", leaseSeconds: 5) { cluster in
                let reference = try await cluster.latents(of: cluster.submit(request).id, output: "latents_steps")
                let id = try await cluster.submit(request).id
                let running = try await cluster.wait(id) { ($0.stage("denoiser")?.step ?? 0) >= 60 }
                let worker = try #require(running.stage("denoiser")?.worker)
                kill(try cluster.processIdentifier("zoetrope-denoiser", name: worker), SIGKILL)
                #expect(try await cluster.latents(of: id, output: "latents_steps") == reference)
                let stage = try #require(try await cluster.video(id).stage("denoiser"))
                #expect(stage.attempt == 2)
                #expect(stage.notes.contains { $0.hasPrefix("Resumed after step") }, "\(stage.notes)")
            }
        }
    }
}
