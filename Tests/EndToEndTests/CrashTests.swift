import Foundation
import Testing

extension EndToEnd {
    /// SIGKILL at the worst moment. A worker frozen with SIGSTOP before the job reaches it is certainly killed while it
    /// holds the lease, however quick its stage is.
    @Suite("A worker that is killed costs time, never the result")
    struct CrashTests {
        static let request = #"""
            {"prompt": "the sun rising over green hills", "num_inference_steps": 10, "num_frames": 9, "seed": 7,
             "container": "mkv"}
            """#

        /// Long enough to be met in the middle.
        static let longer = request.replacing("\"num_inference_steps\": 10", with: "\"num_inference_steps\": 100")

        static let stages = ["text-encoder", "denoiser", "vae-decoder", "video-muxer"]

        @Test("kill -9 of any one worker that holds the job: the same frames come out", .timeLimit(.minutes(4)))
        func killedWhileLeased() async throws {
            try await withCluster(leaseSeconds: 2) { cluster in
                let reference = try await frames(of: cluster.submit(Self.request).id, in: cluster, name: "reference")
                #expect(reference.count == 9)
                for stage in Self.stages {
                    let victim = try cluster.processIdentifier("zoetrope-\(stage)")
                    kill(victim, SIGSTOP)
                    let id = try await cluster.submit(Self.request).id
                    _ = try await cluster.wait(id) { $0.stage(stage)?.isHeld == true }
                    kill(victim, SIGKILL)
                    let hashes = try await frames(of: id, in: cluster, name: stage)
                    #expect(hashes == reference, "after the death of the \(stage)")
                    let attempts = try await cluster.video(id).stage(stage)?.attempt ?? 0
                    #expect(attempts >= 2, "the \(stage) was not holding the job")
                }
            }
        }

        @Test(
            "a denoiser killed between two steps is continued by another from its last checkpoint",
            .timeLimit(.minutes(3)))
        func killedBetweenSteps() async throws {
            try await withCluster(workers: "denoiser=2", leaseSeconds: 2) { cluster in
                let reference = try await frames(of: cluster.submit(Self.longer).id, in: cluster, name: "reference")
                let id = try await cluster.submit(Self.longer).id
                let running = try await cluster.wait(id) { ($0.stage("denoiser")?.step ?? 0) >= 20 }
                let first = try #require(running.stage("denoiser")?.worker)
                kill(try cluster.processIdentifier("zoetrope-denoiser", name: first), SIGKILL)
                let hashes = try await frames(of: id, in: cluster, name: "resumed")
                #expect(hashes == reference)
                let last = try #require(try await cluster.video(id).stage("denoiser"))
                #expect(last.attempt == 2)
                #expect(last.notes.contains { $0.hasPrefix("Resumed after step") }, "\(last.notes)")
            }
        }

        @Test("frames lost with their decoder are decoded again", .timeLimit(.minutes(3)))
        func framesLostAfterDecoding() async throws {
            try await withCluster(leaseSeconds: 5) { cluster in
                let reference = try await frames(of: cluster.submit(Self.request).id, in: cluster, name: "reference")
                let muxer = try cluster.processIdentifier("zoetrope-video-muxer")
                kill(muxer, SIGSTOP)
                let id = try await cluster.submit(Self.request).id
                _ = try await cluster.wait(id) { $0.stage("video-muxer")?.isHeld == true }
                kill(try cluster.processIdentifier("zoetrope-vae-decoder"), SIGKILL)
                kill(muxer, SIGCONT)
                let hashes = try await frames(of: id, in: cluster, name: "again")
                #expect(hashes == reference)
            }
        }

        @Test("a killed broker takes up its jobs from the ledger", .timeLimit(.minutes(3)))
        func killedBroker() async throws {
            try await withCluster(leaseSeconds: 2) { cluster in
                let reference = try await frames(of: cluster.submit(Self.longer).id, in: cluster, name: "reference")
                let id = try await cluster.submit(Self.longer).id
                _ = try await cluster.wait(id) { ($0.stage("denoiser")?.step ?? 0) >= 10 }
                kill(try cluster.processIdentifier("zoetrope-broker"), SIGKILL)
                let deadline = ContinuousClock.now + .seconds(60)
                var last: Video?
                while last?.isTerminal != true {
                    try #require(ContinuousClock.now < deadline, "\(cluster.log.suffix(4000))")
                    last = (try? await cluster.video(id)) ?? last
                    try await Task.sleep(for: .milliseconds(50))
                }
                let hashes = try await frames(of: id, in: cluster, name: "after")
                #expect(hashes == reference)
            }
        }

        private func frames(of id: String, in cluster: Cluster, name: String) async throws -> [String] {
            _ = try await cluster.finished(id)
            let path = try await cluster.download(id, as: "\(name).mkv")
            return try await MediaFile.frameHashes(path, in: cluster.folder)
        }
    }
}
