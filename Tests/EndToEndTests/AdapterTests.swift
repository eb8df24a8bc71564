import Checkpoint
import Foundation
import Tensor
import Testing

extension EndToEnd {
    /// LoRA adapters through the executables, against what diffusers makes of them
    /// (Tests/Golden/make_lora_fixtures.py).
    @Suite("Videos with adapters")
    struct AdapterTests {
        private static let golden = ParityTests.golden.path
        private static let demo = "\(golden)/loras/demo/dusk.safetensors"

        private static func body(_ loras: String, seed: Int = 7) -> String {
            #"{"prompt": "the sun rising over green hills", "num_inference_steps": 5, "num_frames": 9, "seed": \#(seed), "#
                + #""container": "mkv", "loras": \#(loras)}"#
        }

        @Test(
            "generate with files makes the latents of diffusers' set_adapters", .timeLimit(.minutes(2)),
            arguments: [
                ("2b.one", "2b", "ddim", ["style:0.8"]), ("2b.two", "2b", "dpm", ["style:0.8", "motion:-0.5"]),
            ])
        func parity(key: String, model: String, scheduler: String, loras: [String]) async throws {
            let folder = try TemporaryFolder()
            let reference = try SafetensorsFile(path: "\(Self.golden)/loras/expected.safetensors").tensor(
                "\(key).steps")
            var arguments = [
                EndToEnd.prompt, "--negative-prompt", "snow", "--guidance-scale", "6", "--seed", "42", "--scheduler",
                scheduler, "--num-inference-steps", "10", "--model", "\(Self.golden)/\(model)", "--output-type",
                "latent",
                "--output", folder.file("latents.safetensors"),
            ]
            for lora in loras {
                let parts = lora.split(separator: ":")
                arguments += ["--lora", "\(Self.golden)/loras/\(model)/\(parts[0]).safetensors:\(parts[1])"]
            }
            try await generate(arguments, in: folder)
            let found = try SafetensorsFile(path: folder.file("latents.safetensors")).tensor("latents").floats()
            let wanted = reference.rows(9..<10).floats()
            #expect(found.count == wanted.count)
            #expect(zip(found, wanted).allSatisfy { abs($0 - $1) <= 1e-3 })
        }

        @Test(
            "a server takes adapters from its folder, goes back to the bits without, and prefers who has them ready",
            .timeLimit(.minutes(5)))
        func server() async throws {
            let shelf = try TemporaryFolder()
            try FileManager.default.copyItem(atPath: Self.demo, toPath: shelf.file("dusk.safetensors"))
            try await withCluster(workers: "denoiser=2", options: ["--adapters", shelf.file("")]) { cluster in
                func latents(_ loras: String) async throws -> (latents: Data, denoiser: String, notes: [String]) {
                    let video = try await cluster.finished(cluster.submit(Self.body(loras)).id)
                    let stage = try #require(video.stage("denoiser"))
                    return (try await cluster.latents(of: video.id), stage.worker, stage.notes)
                }
                let plain = try await latents("[]"), whole = try await latents(#"[{"name": "dusk"}]"#)
                let half = try await latents(#"[{"path": "dusk.safetensors", "weight": 0.5}]"#)
                #expect(Set([plain.latents, whole.latents, half.latents]).count == 3)
                #expect(half.notes.contains { $0.hasPrefix("lora dusk.safetensors: rank 4, scale 1.0, weight 0.5") })
                #expect(try await latents("[]").latents == plain.latents)
                // Whoever has merged it is free and gets it again, whosever turn it is.
                for _ in 0..<2 {
                    let again = try await latents(#"[{"name": "dusk"}]"#)
                    #expect(again.latents == whole.latents && again.denoiser == whole.denoiser)
                }
                let submitted = try await cluster.zoetrope(
                    ["submit", EndToEnd.prompt, "--lora", "dusk:0.5"] + EndToEnd.small)
                #expect(submitted.status == 0, "\(submitted.everything)")
                let id = submitted.output.trimmingCharacters(in: .whitespacesAndNewlines)
                _ = try await cluster.finished(id)
                #expect(try await cluster.latents(of: id) == half.latents)
                let workers = try await cluster.zoetrope(["status", "--workers"])
                #expect(
                    workers.status == 0 && workers.output.contains("float32 with dusk:1.0"), "\(workers.everything)")
                let listed = try await cluster.request("GET", "/v1/loras")
                #expect(listed.status == 200 && listed.text.contains("\"rank\":4"), "\(listed.text)")
            }
        }

        @Test("wrong adapters are refused by name, and the next job runs", .timeLimit(.minutes(3)))
        func refusals() async throws {
            let shelf = try TemporaryFolder()
            let manager = FileManager.default
            try manager.copyItem(atPath: Self.demo, toPath: shelf.file("dusk.safetensors"))
            try manager.copyItem(
                atPath: "\(Self.golden)/loras/2b/style.safetensors", toPath: shelf.file("tiny.safetensors"))
            try manager.createSymbolicLink(atPath: shelf.file("out.safetensors"), withDestinationPath: Self.demo)
            try Data("x".utf8).write(to: URL(fileURLWithPath: shelf.file("broken.safetensors")))
            try await withCluster(options: ["--adapters", shelf.file("")]) { cluster in
                for (loras, code) in [
                    (#"[{"name": "nothing"}]"#, "adapter_not_found"),
                    (#"[{"name": "tiny"}]"#, "adapter_shape_mismatch"),
                    (#"[{"name": "../dusk"}]"#, "adapter_name_invalid"),
                    (#"[{"name": "out"}]"#, "adapter_outside_folder"),
                    (#"[{"name": "/etc/passwd"}]"#, "adapter_name_invalid"),
                    (#"[{"name": "broken"}]"#, "corrupt_safetensors"),
                    (#"[{"name": "dusk", "weight": 99}]"#, "adapter_weight_out_of_range"),
                ] {
                    let answer = try await cluster.post(Self.body(loras))
                    #expect(answer.status == 400 && answer.errorCode == code, "\(loras): \(answer.text)")
                    #expect(!answer.text.contains(shelf.file("")), "\(answer.text)")
                }
                let job = try await cluster.submit(Self.body(#"[{"name": "dusk"}]"#)).id
                _ = try await cluster.finished(job)
            }
        }

        @Test("a killed denoiser's job goes on with its adapters, to the same latents", .timeLimit(.minutes(3)))
        func killed() async throws {
            let shelf = try TemporaryFolder()
            try FileManager.default.copyItem(atPath: Self.demo, toPath: shelf.file("dusk.safetensors"))
            try await withCluster(workers: "denoiser=2", options: ["--adapters", shelf.file("")]) { cluster in
                let request = CrashTests.longer.replacing(
                    "\"seed\": 7", with: "\"seed\": 7, \"loras\": [{\"name\": \"dusk\", \"weight\": 0.7}]")
                let whole = try await cluster.latents(of: try await cluster.finished(cluster.submit(request).id).id)
                let job = try await cluster.submit(request).id
                let running = try await cluster.wait(job) { ($0.stage("denoiser")?.step ?? 0) >= 10 }
                let worker = try #require(running.stage("denoiser")?.worker)
                kill(try cluster.processIdentifier("zoetrope-denoiser", name: worker), SIGKILL)
                let video = try await cluster.finished(job)
                #expect(video.stage("denoiser")?.attempt == 2)
                #expect(try await cluster.latents(of: job) == whole)
            }
        }
    }
}
