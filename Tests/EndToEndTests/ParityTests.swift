import Foundation
import Tensor
import Testing

extension EndToEnd {
    /// What the executables compute against what diffusers and transformers computed (Tests/Golden/make_fixtures.py).
    @Suite("Parity with the reference through the executables")
    struct ParityTests {
        struct Request: Decodable, Sendable {
            let prompt: String
            let negative_prompt: String
            let width: Int
            let height: Int
            let num_frames: Int
            let guidance_scale: Double
            let seed: UInt64
            let fps: Int
            let scheduler: String
            let num_inference_steps: Int
            let use_dynamic_cfg: Bool

            var arguments: [String] {
                [
                    prompt, "--negative-prompt", negative_prompt, "--width", String(width), "--height", String(height),
                    "--num-frames", String(num_frames), "--guidance-scale", String(guidance_scale), "--seed",
                    String(seed), "--fps", String(fps), "--scheduler", scheduler, "--num-inference-steps",
                    String(num_inference_steps),
                ] + (use_dynamic_cfg ? ["--use-dynamic-cfg"] : [])
            }
        }

        struct Run: Sendable, CustomTestStringConvertible {
            let fixture: String
            let name: String
            let request: Request

            var testDescription: String { "\(fixture) \(name)" }
        }

        static let golden = URL(fileURLWithPath: #filePath)
            .deletingLastPathComponent().deletingLastPathComponent().appendingPathComponent("Golden")

        /// Every request of every whole pipeline under Tests/Golden.
        static let runs: [Run] = {
            let folders = (try? FileManager.default.contentsOfDirectory(atPath: golden.path).sorted()) ?? []
            return folders.flatMap { fixture -> [Run] in
                let path = golden.appendingPathComponent("\(fixture)/request.json")
                guard let data = try? Data(contentsOf: path),
                    let requests = try? JSONDecoder().decode([String: Request].self, from: data)
                else { return [] }
                return requests.sorted { $0.key < $1.key }.map {
                    Run(fixture: fixture, name: $0.key, request: $0.value)
                }
            }
        }()

        @Test("the fixtures are there")
        func fixturesExist() { #expect(Set(Self.runs.map(\.fixture)).count >= 3) }

        @Test("embeddings, every step's latents and the frames agree", .timeLimit(.minutes(2)), arguments: runs)
        func wholePipeline(run: Run) async throws {
            let expected = try SafetensorsFile(path: Self.golden.path + "/\(run.fixture)/expected.safetensors")
            let folder = try TemporaryFolder()
            let saved = folder.file("saved")
            try await generate(
                run.request.arguments + [
                    "--model", Self.golden.path + "/\(run.fixture)", "--save-intermediates", saved, "--output",
                    folder.file("out.mkv"),
                ], in: folder)
            func ours(_ name: String) throws -> Tensor {
                try SafetensorsFile(path: "\(saved)/\(name).safetensors").tensor(name)
            }

            let ids = try expected.tensor("text.prompt.ids").int32s()
            #expect(try integers(ours("input_ids")) == ids.map(Int.init))
            expectClose(try ours("prompt_embeds"), try expected.tensor("text.prompt.embeddings"), 1e-4, "prompt_embeds")
            expectClose(
                try ours("negative_prompt_embeds"), try expected.tensor("text.negative.embeddings"), 1e-4,
                "negative_prompt_embeds")

            let steps = run.request.num_inference_steps
            let tolerance: Float = steps > 10 ? 1e-3 : 1e-4
            if expected.names.contains("\(run.name).steps") {
                let all = try expected.tensor("\(run.name).steps")
                for step in 0..<steps {
                    let name = "latents_step_" + String(repeating: "0", count: 3 - String(step).count) + String(step)
                    expectClose(try ours(name), all.rows(step..<(step + 1)), tolerance, name)
                }
                expectClose(try ours("latents"), all.rows((steps - 1)..<steps), tolerance, "latents")
            } else {
                expectClose(try ours("latents"), try expected.tensor("\(run.name).latents"), tolerance, "latents")
            }
            if expected.names.contains("\(run.name).frames_float") {
                expectClose(try ours("frames"), try expected.tensor("\(run.name).frames_float"), 1e-4, "frames")
            }
            if expected.names.contains("\(run.name).frames") {
                let bytes = try ours("frames").floats().map { ($0 * 255).rounded(.toNearestOrEven) }
                let reference = try expected.tensor("\(run.name).frames").floats()
                #expect(bytes.count == reference.count)
                #expect(maximumDifference(bytes, reference) <= 1, "frames as bytes")
            }
        }

        @Test(
            "given latents take the place of the seed's noise, and a job may end at latents or frames",
            .timeLimit(.minutes(3)))
        func initialLatentsAndOutputTypes() async throws {
            let run = try #require(Self.runs.first { $0.name == "ddim" })
            let expected = try SafetensorsFile(path: Self.golden.path + "/\(run.fixture)/expected.safetensors")
            let initial = try expected.tensor("initial_latents")
            let folder = try TemporaryFolder()
            let given = folder.file("init.safetensors")
            try SafetensorsWriter.write(
                tensors: [("latents", initial.reshaped([1] + initial.shape))], metadata: [:], to: given)
            var arguments =
                run.request.arguments + [
                    "--model", Self.golden.path + "/\(run.fixture)", "--init-latents", given,
                ]
            // The seed must no longer matter.
            arguments[try #require(arguments.firstIndex(of: "--seed")) + 1] = "999"

            let latents = folder.file("latents.safetensors")
            try await generate(arguments + ["--output-type", "latent", "--output", latents], in: folder)
            let steps = try expected.tensor("ddim.steps")
            expectClose(
                try SafetensorsFile(path: latents).tensor("latents"),
                steps.rows((run.request.num_inference_steps - 1)..<run.request.num_inference_steps), 1e-4, "latents")

            let frames = folder.file("frames.safetensors")
            try await generate(arguments + ["--output-type", "frames", "--output", frames], in: folder)
            let ours = try SafetensorsFile(path: frames).tensor("frames").floats()
            let reference = try expected.tensor("ddim.frames").floats()
            try #require(ours.count == reference.count)
            #expect(maximumDifference(ours, reference) <= 1)
        }

        @Test(
            "bfloat16 agrees with float32 to 40 dB or better in every frame of the demo model", .timeLimit(.minutes(3)))
        func bfloat16() async throws {
            let folder = try TemporaryFolder()
            var frames: [[Float]] = []
            for dtype in ["float32", "bfloat16"] {
                let saved = folder.file(dtype)
                try await generate(
                    [
                        EndToEnd.prompt, "--seed", "7", "--dtype", dtype, "--save-intermediates", saved, "--output",
                        folder.file("\(dtype).mp4"),
                    ], in: folder)
                frames.append(try SafetensorsFile(path: "\(saved)/frames.safetensors").tensor("frames").floats())
            }
            let size = 96 * 96 * 3
            try #require(frames[0].count == 17 * size && frames[1].count == 17 * size)
            for frame in 0..<17 {
                let range = (frame * size)..<((frame + 1) * size)
                let squares = zip(frames[0][range], frames[1][range]).reduce(0.0) { sum, pair in
                    let difference = Double(pair.0 - pair.1)
                    return sum + difference * difference
                }
                let decibels = -10 * log10(squares / Double(size))
                #expect(decibels >= 40, "frame \(frame): \(decibels) dB")
            }
        }

        private func expectClose(_ ours: Tensor, _ reference: Tensor, _ tolerance: Float, _ name: String) {
            let values = ours.floats()
            let wanted = reference.floats()
            #expect(values.count == wanted.count, "\(name) is \(ours.shape), the reference \(reference.shape)")
            guard values.count == wanted.count else { return }
            let difference = maximumDifference(values, wanted)
            #expect(difference <= tolerance, "\(name) differs by \(difference)")
        }

        /// The largest absolute difference; infinite where either side is not a number.
        private func maximumDifference(_ ours: [Float], _ reference: [Float]) -> Float {
            zip(ours, reference).reduce(0) { worst, pair in
                let difference = abs(pair.0 - pair.1)
                return difference.isNaN ? .infinity : max(worst, difference)
            }
        }

        private func integers(_ ids: Tensor) -> [Int] {
            guard ids.dtype == .int64 else { return ids.int32s().map(Int.init) }
            return ids.withUnsafeBytes { bytes in
                (0..<ids.count).map { Int(bytes.loadUnaligned(fromByteOffset: $0 * 8, as: Int64.self)) }
            }
        }
    }
}
