import Foundation
import Testing

extension EndToEnd {
    /// Deploys and drains: what was computed goes on elsewhere and costs the job nothing.
    @Suite("A worker that leaves in order hands its work over")
    struct HandBackTests {
        @Test("a drained denoiser ends with its step; another goes on in the same attempt to the same latents")
        func drained() async throws {
            try await withCluster(workers: "denoiser=2", leaseSeconds: 10) { cluster in
                let reference = try await cluster.latents(of: cluster.submit(CrashTests.longer).id)
                let id = try await cluster.submit(CrashTests.longer).id
                let running = try await cluster.wait(id) { ($0.stage("denoiser")?.step ?? 0) >= 20 }
                let worker = try #require(running.stage("denoiser")?.worker)
                let drain = try await cluster.zoetrope(["drain", worker])
                #expect(drain.status == 0, "\(drain.everything)")
                #expect(drain.output.contains("\(worker) is gone"))
                #expect(try await cluster.latents(of: id) == reference)
                let stage = try #require(try await cluster.video(id).stage("denoiser"))
                #expect(stage.attempt == 1 && stage.worker != worker)
                #expect(stage.notes.contains { $0.hasPrefix("Resumed after step") }, "\(stage.notes)")
                #expect(cluster.log.contains("\(worker) was drained and has left"))
                let list = try await cluster.zoetrope(["drain", "--list"])
                #expect(list.output.contains("denoiser-") && !list.output.contains(worker), "\(list.everything)")
            }
        }

        @Test("SIGTERM is such a leave: status 0, nothing counted, nothing lost")
        func terminated() async throws {
            try await withCluster(workers: "denoiser=2", leaseSeconds: 10) { cluster in
                let reference = try await cluster.latents(of: cluster.submit(CrashTests.longer).id)
                let id = try await cluster.submit(CrashTests.longer).id
                let running = try await cluster.wait(id) { ($0.stage("denoiser")?.step ?? 0) >= 20 }
                let worker = try #require(running.stage("denoiser")?.worker)
                kill(try cluster.processIdentifier("zoetrope-denoiser", name: worker), SIGTERM)
                #expect(try await cluster.latents(of: id) == reference)
                let stage = try #require(try await cluster.video(id).stage("denoiser"))
                #expect(stage.attempt == 1 && stage.worker != worker)
                #expect(cluster.log.contains("\(worker) was drained and has left"))
            }
        }

        @Test("a draining broker refuses new jobs and finishes the one it has")
        func drainedBroker() async throws {
            try await withCluster { cluster in
                let id = try await cluster.submit(CrashTests.longer).id
                #expect(try await cluster.zoetrope(["drain", "--broker"]).status == 0)
                let refused = try await cluster.post(CrashTests.request)
                #expect(refused.status == 503 && refused.errorCode == "draining", "\(refused.text)")
                _ = try await cluster.finished(id)
                #expect(try await cluster.zoetrope(["drain", "--broker", "--resume"]).status == 0)
                _ = try await cluster.finished(cluster.submit(CrashTests.request).id)
            }
        }
    }
}

extension Cluster {
    /// The final latents of a job, once it is done, as the safetensors file that the gateway gives.
    func latents(of id: String, output: String = "latents") async throws -> Data {
        _ = try await finished(id)
        let answer = try await request("GET", "/v1/videos/\(id)/tensors/denoise.\(output)")
        try #require(answer.status == 200, "\(answer.text)")
        return answer.body
    }

    /// Runs a client command against this cluster.
    func zoetrope(_ arguments: [String]) async throws -> CommandResult {
        try await run("zoetrope", arguments + ["--server", server], in: folder)
    }
}
