import Foundation
import Testing

extension EndToEnd {
    @Suite("The newcomer's first command")
    struct DemoTests {
        @Test(
            "a prompt and nothing else gives out.mp4 and a contact sheet, and leaves no process behind",
            .timeLimit(.minutes(3)))
        func firstCommand() async throws {
            let folder = try TemporaryFolder()
            let result = try await generate([EndToEnd.prompt], in: folder)
            print(result.output)
            let video = try await MediaFile(probing: folder.file("out.mp4"), in: folder)
            #expect(video.codec == "h264")
            #expect(video.width == 96 && video.height == 96)
            #expect(video.frames == 17)
            #expect(video.framesPerSecond == 8)
            let sheet = try await MediaFile(probing: folder.file("out.png"), in: folder)
            #expect(sheet.codec == "png" && sheet.width > 96 * 2)
            #expect(result.output.contains("wrote out.mp4"))
            for stage in ["text-encoder", "denoiser", "vae-decoder", "video-muxer"] {
                #expect(result.output.contains(stage), "no word of the \(stage)")
            }
            #expect(try processes(below: folder).isEmpty)
        }

        @Test("the same seed gives the same frames, another seed others", .timeLimit(.minutes(3)))
        func seedsDecide() async throws {
            let folder = try TemporaryFolder()
            var hashes: [[String]] = []
            for (name, seed) in [("a", "1"), ("b", "1"), ("c", "2")] {
                let path = folder.file("\(name).mkv")
                try await generate(
                    [EndToEnd.prompt, "--num-inference-steps", "5", "--seed", seed, "--output", path], in: folder)
                hashes.append(try await MediaFile.frameHashes(path, in: folder))
            }
            #expect(hashes[0].count == 17)
            #expect(hashes[0] == hashes[1])
            #expect(zip(hashes[0], hashes[2]).allSatisfy { $0 != $1 })
        }

        @Test("a prompt over the model's limit is cut, and the cut-off text is named", .timeLimit(.minutes(2)))
        func longPrompt() async throws {
            let folder = try TemporaryFolder()
            let prompt = EndToEnd.prompt + String(repeating: " and snow falling at night", count: 12) + " over zebras"
            let result = try await generate([prompt] + EndToEnd.small, in: folder)
            let notes = result.everything.split(separator: "\n").filter { $0.contains("truncated") }
            #expect(
                notes.contains { $0.contains("snow falling") }, "no note names the cut-off text: \(result.everything)")
        }

        @Test("Ctrl-C stops every process", .timeLimit(.minutes(1)))
        func interruption() async throws {
            let folder = try TemporaryFolder()
            let process = try Subprocess(
                Executables.path("zoetrope"), ["generate", EndToEnd.prompt, "--num-inference-steps", "500"], in: folder)
            while !process.output.contains("denoiser  ") {
                try #require(process.process.isRunning, "\(process.output)\(process.errors)")
                try await Task.sleep(for: .milliseconds(20))
            }
            #expect(try processes(below: folder).count >= 7)
            process.send(SIGINT)
            let result = try await process.result(timeout: .seconds(20))
            #expect(result.status == 128 + SIGINT)
            #expect(try processes(below: folder).isEmpty)
        }

        /// Processes whose working folder is `folder`: our command and the children that inherited it.
        private func processes(below folder: TemporaryFolder) throws -> [String] {
            try FileManager.default.contentsOfDirectory(atPath: "/proc").filter { entry in
                let link = try? FileManager.default.destinationOfSymbolicLink(atPath: "/proc/\(entry)/cwd")
                return Int32(entry) != nil && link == folder.path
            }
        }
    }
}
