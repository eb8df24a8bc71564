import Foundation
import Testing

extension EndToEnd {
    /// A process whose threads that compute stand still (held by ptrace) while the others beat on.
    @Suite("A computation that hangs")
    struct HangTests {
        static let holder = URL(fileURLWithPath: #filePath).deletingLastPathComponent()
            .appendingPathComponent("hold_threads.py").path

        @Test(
            "is found by its lack of progress: another worker takes the job, and the process ends itself",
            .timeLimit(.minutes(4)))
        func hung() async throws {
            let python = try #require(Executables.system("python3"), "python3 is not installed: run `make setup`")
            try await withCluster(workers: "denoiser=2", leaseSeconds: 5, options: ["--threads", "2"]) { cluster in
                let request = CrashTests.longer.replacing(
                    "\"num_inference_steps\": 100", with: "\"num_inference_steps\": 500")
                let reference = try await cluster.latents(of: cluster.submit(request).id)
                let id = try await cluster.submit(request).id
                let running = try await cluster.wait(id) { ($0.stage("denoiser")?.step ?? 0) >= 20 }
                let worker = try #require(running.stage("denoiser")?.worker)
                let process = try cluster.processIdentifier("zoetrope-denoiser", name: worker)
                let holder = try Subprocess(
                    python, [Self.holder, String(process)], in: cluster.folder, name: "holder")
                defer { holder.send(SIGKILL) }
                while !holder.output.contains("held") {
                    guard holder.process.isRunning else {
                        print("SKIPPED: threads cannot be held here: \(holder.errors.suffix(200))")
                        return
                    }
                    try await Task.sleep(for: .milliseconds(10))
                }
                try #require(!holder.output.contains("held 0"))
                let latents = try await cluster.latents(of: id)
                #expect(latents == reference)
                let stage = try #require(try await cluster.video(id).stage("denoiser"))
                #expect(stage.worker != worker && stage.attempt == 2)
                let started = ContinuousClock.now
                while !cluster.log.contains("\(worker) ended with status 1; starting it again") {
                    try #require(ContinuousClock.now - started < .seconds(60), "\(cluster.log.suffix(3000))")
                    try await Task.sleep(for: .milliseconds(50))
                }
                #expect(cluster.log.contains("compute_hung"))
            }
        }
    }
}
