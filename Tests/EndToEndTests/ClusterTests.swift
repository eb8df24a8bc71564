import Foundation
import Testing

extension EndToEnd {
    @Suite("A running cluster")
    struct ClusterTests {
        @Test("two jobs at once are spread over two workers a stage", .timeLimit(.minutes(2)))
        func jobsAreSpread() async throws {
            try await withCluster(workers: "text-encoder=2,denoiser=2,vae-decoder=2") { cluster in
                let body = #""prompt": "\#(EndToEnd.prompt)", "num_inference_steps": 25"#
                async let first = cluster.submit("{\(body), \"seed\": 1}")
                async let second = cluster.submit("{\(body), \"seed\": 2}")
                let ids = try await [first.id, second.id]
                let videos = try await [cluster.finished(ids[0]), cluster.finished(ids[1])]
                for stage in ["text-encoder", "denoiser", "vae-decoder"] {
                    let workers = try videos.map { try #require($0.stage(stage)).worker }
                    #expect(Set(workers).count == 2, "\(stage): both jobs ran on \(workers)")
                }
            }
        }

        @Test("submit, watch, status, fetch and cancel reach a running server", .timeLimit(.minutes(2)))
        func clientCommands() async throws {
            try await withCluster { cluster in
                let folder = cluster.folder
                let server = ["--server", cluster.server]
                let submitted = try await run(
                    "zoetrope", ["submit", EndToEnd.prompt] + EndToEnd.small + server, in: folder)
                #expect(submitted.status == 0, "\(submitted.everything)")
                let id = submitted.output.trimmingCharacters(in: .whitespacesAndNewlines)
                #expect(id.wholeMatch(of: /video_[0-9a-f]{32}/) != nil, "\(id)")
                let watched = try await run("zoetrope", ["watch", id] + server, in: folder)
                #expect(watched.status == 0, "\(watched.everything)")
                let status = try await run("zoetrope", ["status", id] + server, in: folder)
                #expect(status.output.contains("completed") && status.output.contains("denoiser"))
                let fetched = try await run("zoetrope", ["fetch", id, "--contact-sheet"] + server, in: folder)
                #expect(fetched.status == 0, "\(fetched.everything)")
                #expect(try await MediaFile(probing: folder.file("\(id).mp4"), in: folder).frames == 9)
                #expect(try await MediaFile(probing: folder.file("\(id).png"), in: folder).codec == "png")

                let long = try await cluster.submit(
                    #"{"prompt": "\#(EndToEnd.prompt)", "num_inference_steps": 500, "seed": 1}"#)
                _ = try await cluster.wait(long.id) { ($0.stage("denoiser")?.step ?? 0) > 2 }
                let cancelled = try await run("zoetrope", ["cancel", long.id] + server, in: folder)
                #expect(cancelled.status == 0, "\(cancelled.everything)")
                let list = try await run("zoetrope", ["status"] + server, in: folder)
                #expect(list.output.contains(id), "\(list.everything)")
                // The worker is free again: the next job is not held up by five hundred steps.
                _ = try await cluster.finished(cluster.submit(#"{"prompt": "snow", "num_inference_steps": 5}"#).id)
            }
        }

        @Test("the unmodified OpenAI client makes, lists, downloads and deletes a video", .timeLimit(.minutes(2)))
        func openAIClient() async throws {
            let script = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
                .appendingPathComponent("GatewayTests/openai_client_check.py").path
            let named = ProcessInfo.processInfo.environment["ZOETROPE_PYTHON"]
            let python = try #require(
                named ?? Executables.system("python3"), "python3 is not installed: run `make setup`")
            let probe = try await Subprocess(python, ["-c", "import openai"], in: TemporaryFolder())
                .result(timeout: .seconds(60))
            guard probe.status == 0 else {
                print("SKIPPED: \(python) has no module openai; name a Python that has it with ZOETROPE_PYTHON")
                return
            }
            try await withCluster { cluster in
                let result = try await Subprocess(python, [script, cluster.server], in: cluster.folder, name: "openai")
                    .result(timeout: .seconds(90))
                #expect(result.status == 0, "\(result.everything)\n\(cluster.log.suffix(3000))")
            }
        }
    }
}
