import Foundation
import Media
import Tensor
import TestSupport
import Testing

extension EndToEnd {
    /// Clips that begin with a picture or a clip, made by the executables, against diffusers' frames
    /// (Tests/Golden/make_fixtures.py conditioned).
    @Suite("Videos that begin with a picture or a clip")
    struct SourceTests {
        /// A picture as PNG, a clip as lossless video.
        private func source(_ pixels: Tensor, _ run: ConditionedRun, in folder: TemporaryFolder) throws -> [String] {
            if run.kind == "image" {
                let path = folder.file("source.png")
                try PNGWriter.write(pixels.reshaped(Array(pixels.shape.dropFirst())), path: path)
                return ["--image", path]
            }
            let path = folder.file("source.mkv")
            let writer = try VideoWriter(
                path: path, container: .mkv, width: pixels.shape[2], height: pixels.shape[1],
                framesPerSecond: try #require(FrameRate(numerator: 8)))
            try writer.append(frames: pixels)
            try writer.finish()
            return [run.kind == "video" ? "--video" : "--control-video", path]
        }

        @Test(
            "frames equal those of diffusers", .timeLimit(.minutes(2)),
            arguments: ["image", "image-1.5", "video", "video-dpm", "control"])
        func parity(key: String) async throws {
            let run = try #require(try ConditionedRun.named(key)), folder = try TemporaryFolder()
            let expected = try SafetensorsFile(path: ConditionedRun.expectedPath)
            let file = folder.file("frames.safetensors"), model = folder.file("model")
            try run.makeModel(at: model)
            var arguments = [
                run.prompt, "--negative-prompt", run.negativePrompt, "--guidance-scale", "6", "--seed", "42",
                "--num-inference-steps", "10", "--scheduler", run.scheduler, "--model", model,
                "--output-type", "frames", "--output", file,
            ]
            if let strength = run.strength { arguments += ["--strength", "\(strength)"] }
            if run.useDynamicCFG { arguments.append("--use-dynamic-cfg") }
            arguments += try source(try expected.tensor("\(key).pixels"), run, in: folder)
            try await generate(arguments, in: folder)
            let frames = try SafetensorsFile(path: file).tensor("frames"), wanted = try expected.tensor("\(key).frames")
            #expect(frames.shape.suffix(4) == wanted.shape[...])
            #expect(zip(frames.floats(), wanted.floats()).allSatisfy { abs($0 - $1) <= 1 })
        }

        @Test(
            "a draft shows what its steps foretell, and continuing it makes the frames of a job that did not stop",
            .timeLimit(.minutes(3)))
        func draft() async throws {
            try await withCluster { cluster in
                let whole = try await cluster.latents(of: cluster.submit(CrashTests.request).id)
                let draft = CrashTests.request.replacing("\"seed\": 7", with: "\"seed\": 7, \"steps_until\": 4")
                let first = try await cluster.submit(draft).id
                _ = try await cluster.finished(first)
                let preview = try await MediaFile(
                    probing: try await cluster.download(first, as: "draft.mkv"), in: cluster.folder)
                #expect(preview.frames == 9)
                #expect(try await cluster.latents(of: first) != whole)
                let result = try await cluster.zoetrope(["continue", first])
                #expect(result.status == 0, "\(result.everything)")
                let rest = result.output.trimmingCharacters(in: .whitespacesAndNewlines)
                let video = try await cluster.finished(rest)
                #expect(video.stages?.map(\.stage) == ["denoiser", "vae-decoder", "video-muxer"])
                #expect(try await cluster.latents(of: rest) == whole)
                #expect(try await cluster.zoetrope(["continue", rest]).everything.contains("nothing_to_continue"))
            }
        }

        @Test("a file that is no clip, and one for a model that takes none, are refused; the next job runs")
        func refused() async throws {
            try await withCluster { cluster in
                let path = cluster.folder.file("broken.mp4")
                try Data("this is no video".utf8).write(to: URL(fileURLWithPath: path))
                let broken = try await cluster.zoetrope(["submit", "a boat", "--video", path])
                #expect(broken.status == 1)
                #expect(broken.everything.contains("error: "), "\(broken.everything)")
                let image = try await cluster.zoetrope(["submit", "a boat", "--image", path])
                #expect(image.everything.contains("source_unsupported"), "\(image.everything)")
                _ = try await cluster.finished(cluster.submit(CrashTests.request).id)
            }
        }
    }
}
