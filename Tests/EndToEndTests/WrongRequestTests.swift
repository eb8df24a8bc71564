import Foundation
import Tensor
import Testing

extension EndToEnd {
    @Suite("Wrong requests are refused with a stable code, and the next job runs")
    struct WrongRequestTests {
        /// A request that differs from a good one in `changes`, and the code it must be refused with.
        struct Wrong: Sendable {
            let changes: String
            let code: String
            let flags: [String]
        }

        static let wrong = [
            Wrong(changes: #""width": 100"#, code: "size_not_multiple_of_16", flags: ["--width", "100"]),
            Wrong(changes: #""height": 90"#, code: "size_not_multiple_of_16", flags: ["--height", "90"]),
            Wrong(changes: #""width": 0"#, code: "size_too_small", flags: ["--width", "0"]),
            Wrong(changes: #""height": 65536"#, code: "size_too_large", flags: ["--height", "65536"]),
            Wrong(changes: #""num_frames": 10"#, code: "frame_count_unsupported", flags: ["--num-frames", "10"]),
            Wrong(changes: #""num_frames": 0"#, code: "frame_count_unsupported", flags: ["--num-frames", "0"]),
            Wrong(
                changes: #""num_inference_steps": 0"#, code: "num_inference_steps_out_of_range",
                flags: ["--num-inference-steps", "0"]),
            Wrong(
                changes: #""num_inference_steps": 1001"#, code: "num_inference_steps_out_of_range",
                flags: ["--num-inference-steps", "1001"]),
            Wrong(
                changes: #""num_inference_steps": 30"#, code: "num_inference_steps_unsafe",
                flags: ["--num-inference-steps", "30"]),
            Wrong(
                changes: #""guidance_scale": -1"#, code: "guidance_scale_out_of_range",
                flags: ["--guidance-scale=-1"]),
            Wrong(
                changes: #""guidance_scale": 1000"#, code: "guidance_scale_out_of_range",
                flags: ["--guidance-scale", "1000"]),
            Wrong(changes: #""fps": 0"#, code: "fps_out_of_range", flags: ["--fps", "0"]),
            Wrong(changes: #""scheduler": "euler""#, code: "scheduler_unknown", flags: ["--scheduler", "euler"]),
            Wrong(changes: #""dtype": "int4""#, code: "dtype_unknown", flags: ["--dtype", "int4"]),
            Wrong(changes: #""prompt": "  ""#, code: "prompt_missing", flags: []),
            Wrong(changes: #""prompt": null"#, code: "prompt_missing", flags: []),
            Wrong(changes: #""seed": -1"#, code: "seed_out_of_range", flags: []),
            Wrong(changes: #""container": "avi""#, code: "container_unknown", flags: ["--output", "clip.avi"]),
            Wrong(
                changes: #""output_type": "painting""#, code: "output_type_unknown",
                flags: ["--output-type", "painting"]),
            Wrong(changes: #""num_infernce_steps": 5"#, code: "unknown_field", flags: []),
            Wrong(changes: #""num_frames": "many""#, code: "wrong_type", flags: []),
            Wrong(changes: #""model": "sora""#, code: "model_unknown", flags: []),
        ]

        @Test("over HTTP", .timeLimit(.minutes(2)))
        func overHTTP() async throws {
            try await withCluster { cluster in
                for wrong in Self.wrong {
                    let prompt = wrong.changes.contains("\"prompt\"") ? "" : #""prompt": "\#(EndToEnd.prompt)", "#
                    let answer = try await cluster.post("{\(prompt)\(wrong.changes)}")
                    #expect((400..<500).contains(answer.status), "\(wrong.changes): \(answer.status)")
                    #expect(answer.errorCode == wrong.code, "\(wrong.changes): \(answer.text)")
                }
                for (body, name) in [("{", "half an object"), ("[]", "no object"), ("\u{0}", "a NUL")] {
                    let answer = try await cluster.post(body)
                    #expect((400..<500).contains(answer.status), "\(name): \(answer.status)")
                    #expect(answer.errorCode != nil, "\(name): \(answer.text)")
                }
                let huge = try await cluster.post(#"{"prompt": ""# + String(repeating: "a", count: 100_000) + #""}"#)
                #expect(huge.status == 413 || huge.status == 400, "\(huge.status)")
                #expect(try await cluster.request("GET", "/v1/videos/video_nosuch").status == 404)
                #expect(try await cluster.request("GET", "/v1/images").status == 404)
                #expect(try await cluster.request("PATCH", "/v1/videos").status / 100 == 4)

                let good = try await cluster.submit(#"{"prompt": "\#(EndToEnd.prompt)", "num_inference_steps": 5}"#)
                _ = try await cluster.finished(good.id)
            }
        }

        @Test("on the command line", .timeLimit(.minutes(2)))
        func onTheCommandLine() async throws {
            let folder = try TemporaryFolder()
            for wrong in Self.wrong where !wrong.flags.isEmpty {
                let result = try await run("zoetrope", ["generate", EndToEnd.prompt] + wrong.flags, in: folder)
                #expect(result.status == 1, "\(wrong.flags) ended with \(result.status)")
                #expect(result.errors.contains(wrong.code), "\(wrong.flags): \(result.errors)")
            }
            for usage in [
                ["generate"], ["generate", "a cat", "--steps", "5"], ["generate", "a cat", "--seed", "-1"], ["paint"],
            ] {
                let result = try await run("zoetrope", usage, in: folder)
                #expect(result.status == 2, "\(usage) ended with \(result.status)")
            }
            #expect(!FileManager.default.fileExists(atPath: folder.file("out.mp4")))
            try await generate([EndToEnd.prompt] + EndToEnd.small, in: folder)
        }

        @Test("latents of the wrong shape, with a NaN or in a damaged file", .timeLimit(.minutes(1)))
        func wrongLatents() async throws {
            let folder = try TemporaryFolder()
            let path = folder.file("latents.safetensors")
            func attempt(_ code: String) async throws {
                let result = try await run(
                    "zoetrope", ["generate", EndToEnd.prompt, "--init-latents", path] + EndToEnd.small, in: folder)
                #expect(result.status == 1 && result.errors.contains(code), "\(code): \(result.everything)")
            }
            try SafetensorsWriter.write(
                tensors: [("latents", Tensor(zeros: [1, 3, 8, 12, 13]))], metadata: [:], to: path)
            try await attempt("init_latents_misshapen")
            var values = [Float](repeating: 0, count: 3 * 8 * 12 * 12)
            values[100] = .nan
            try SafetensorsWriter.write(
                tensors: [("latents", Tensor(values, shape: [1, 3, 8, 12, 12]))], metadata: [:], to: path)
            try await attempt("init_latents_not_finite")
            let whole = try Data(contentsOf: URL(fileURLWithPath: path))
            try whole.prefix(whole.count / 2).write(to: URL(fileURLWithPath: path))
            try await attempt("corrupt_safetensors")
        }

        @Test("a model folder with a damaged, missing or foreign file", .timeLimit(.minutes(2)))
        func wrongModels() async throws {
            let folder = try TemporaryFolder()
            let model = folder.file("model")
            let weights = "\(model)/transformer/diffusion_pytorch_model.safetensors"
            func attempt(_ code: String, _ damage: () throws -> Void) async throws {
                try? FileManager.default.removeItem(atPath: model)
                try FileManager.default.copyItem(atPath: ParityTests.golden.path + "/5b", toPath: model)
                try damage()
                let result = try await run(
                    "zoetrope", ["generate", EndToEnd.prompt, "--model", model, "--num-inference-steps", "5"],
                    in: folder)
                #expect(result.status == 1 && result.everything.contains(code), "\(code): \(result.everything)")
            }
            try await attempt("corrupt_safetensors") {
                let handle = try FileHandle(forWritingTo: URL(fileURLWithPath: weights))
                try handle.truncate(atOffset: 5000)
            }
            try await attempt("missing_shard") {
                try FileManager.default.removeItem(atPath: weights)
                let index = #"{"metadata": {}, "weight_map": {"proj_out.weight": "part-00001-of-00002.safetensors"}}"#
                try Data(index.utf8).write(
                    to: URL(fileURLWithPath: "\(model)/transformer/diffusion_pytorch_model.safetensors.index.json"))
            }
            try await attempt("checkpoint_keys_mismatch") {
                try FileManager.default.removeItem(atPath: weights)
                try SafetensorsWriter.write(
                    tensors: [("proj_out.weight", Tensor(zeros: [4, 4]))], metadata: [:], to: weights)
            }
            try await attempt("model_config_invalid") {
                try Data("{".utf8).write(to: URL(fileURLWithPath: "\(model)/transformer/config.json"))
            }
            try await attempt("model_not_found") {
                try FileManager.default.removeItem(atPath: "\(model)/model_index.json")
            }
        }
    }
}
