import Foundation
import Testing

extension EndToEnd {
    @Suite("A job that died leaves evidence and can go on")
    struct DeadJobTests {
        struct Evidence: Decodable {
            struct Incident: Decodable {
                let kind: String
                let worker: String
                let process_end: String
                let step: Int
                let numerics: String
                let quarantined: Bool
            }

            let state: String
            let crashes: Int
            let checkpoint_step: Int
            let incidents: [Incident]
        }

        @Test("three workers killed with the job: DEAD with the evidence, others unharmed, and a retry goes on")
        func poison() async throws {
            try await withCluster(workers: "denoiser=3", leaseSeconds: 5) { cluster in
                let reference = try await cluster.latents(of: cluster.submit(CrashTests.longer).id)
                let id = try await cluster.submit(CrashTests.longer).id
                var killed: [String] = []
                for step in [20, 30, 40] {
                    // A killed worker is named until its lease has run out.
                    let running = try await cluster.wait(id) { [killed] in
                        $0.stage("denoiser")?.isHeld == true && ($0.stage("denoiser")?.step ?? 0) >= step
                            && !killed.contains($0.stage("denoiser")?.worker ?? "")
                    }
                    let worker = try #require(running.stage("denoiser")?.worker)
                    killed.append(worker)
                    kill(try cluster.processIdentifier("zoetrope-denoiser", name: worker), SIGKILL)
                }
                let failed = try await cluster.wait(id) { $0.isTerminal }
                #expect(failed.status == "failed" && failed.error?.code == "worker_lost")
                let answer = try await cluster.request("GET", "/v1/dead/\(id)")
                let evidence = try JSONDecoder().decode(Evidence.self, from: answer.body)
                #expect(evidence.state == "dead" && evidence.crashes == 3 && evidence.incidents.count == 3)
                #expect(evidence.incidents.allSatisfy { $0.kind == "expired" && $0.process_end == "signal 9" })
                #expect(evidence.incidents.allSatisfy { $0.step >= 20 && !$0.numerics.isEmpty })
                #expect(Set(evidence.incidents.map(\.worker)).count == 3, "\(evidence.incidents)")
                #expect(evidence.incidents.map(\.quarantined) == [false, false, true])
                #expect(evidence.checkpoint_step > 0)
                let list = try await cluster.zoetrope(["dead", "list"])
                #expect(list.output.contains(id), "\(list.everything)")
                let shown = try await cluster.zoetrope(["dead", "show", id])
                #expect(shown.output.contains("signal 9") && shown.output.contains("alone"), "\(shown.everything)")
                let retried = try await cluster.zoetrope(["dead", "retry", id])
                let new = retried.output.trimmingCharacters(in: .whitespacesAndNewlines)
                #expect(try await cluster.latents(of: new) == reference)
                let stage = try #require(try await cluster.video(new).stage("denoiser"))
                #expect(stage.notes.contains { $0.hasPrefix("Resumed after step") }, "\(stage.notes)")
            }
        }

        @Test("the latents of a finished job make another file without denoising again")
        func reencode() async throws {
            try await withCluster { cluster in
                let id = try await cluster.submit(CrashTests.request).id
                let reference = try await cluster.latents(of: id)
                _ = try await cluster.finished(id)
                let result = try await cluster.zoetrope(["reencode", id, "--format", "webm", "--fps", "16"])
                #expect(result.status == 0, "\(result.everything)")
                let new = result.output.trimmingCharacters(in: .whitespacesAndNewlines)
                let video = try await cluster.finished(new)
                #expect(video.stages?.map(\.stage) == ["vae-decoder", "video-muxer"])
                let file = try await MediaFile(
                    probing: try await cluster.download(new, as: "again.webm"), in: cluster.folder)
                #expect(file.codec == "vp9" && file.framesPerSecond == 16 && file.frames == 9)
                let lossless = try await cluster.zoetrope(["reencode", id, "--format", "mkv"])
                let again = lossless.output.trimmingCharacters(in: .whitespacesAndNewlines)
                _ = try await cluster.finished(again)
                let first = try await cluster.download(id, as: "first.mkv")
                let second = try await cluster.download(again, as: "second.mkv")
                let hashes = try await MediaFile.frameHashes(first, in: cluster.folder)
                #expect(try await MediaFile.frameHashes(second, in: cluster.folder) == hashes)
                #expect(try await cluster.latents(of: id) == reference, "the latents are still there")
            }
        }
    }
}
