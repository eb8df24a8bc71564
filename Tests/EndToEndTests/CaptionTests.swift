import Foundation
import Testing

extension EndToEnd {
    /// A clip captioned by `fake_chat_server.py`, and a video made of the caption.
    @Suite("Video by caption")
    struct CaptionTests {
        private static let caption = "snow falling at night over white hills"

        private func chat(_ folder: TemporaryFolder, _ requests: String) async throws -> (Subprocess, String) {
            let python = try #require(Executables.system("python3"), "python3 is not installed: run `make setup`")
            let chat = try Subprocess(
                python, [UpsamplerTests.server, requests, Self.caption], in: folder, name: "chat")
            while !chat.output.contains("\n") {
                try #require(chat.process.isRunning, "\(chat.errors)")
                try await Task.sleep(for: .milliseconds(20))
            }
            return (chat, "http://127.0.0.1:\(chat.output.trimmingCharacters(in: .whitespacesAndNewlines))/v1")
        }

        @Test(
            "the clip's frames go to the service that sees, and its caption makes the video that it would as a prompt",
            .timeLimit(.minutes(3)))
        func captioned() async throws {
            let folder = try TemporaryFolder(), source = folder.file("source.mkv")
            let requests = folder.file("requests.json"), question = folder.file("question.txt")
            try await generate([EndToEnd.prompt, "--output", source] + EndToEnd.small, in: folder)
            try Data("What happens here?".utf8).write(to: URL(fileURLWithPath: question))
            let (server, address) = try await chat(folder, requests)
            defer { server.send(SIGTERM) }
            let captioned = folder.file("captioned.mkv")
            let result = try await generate(
                [
                    "--caption-of", source, "--upsampler-base-url", address, "--caption-model", "seeing",
                    "--caption-prompt", question, "--output", captioned,
                ] + EndToEnd.small, in: folder)
            #expect(result.everything.contains("The clip was captioned: \(Self.caption)"))
            let sent = try String(contentsOfFile: requests, encoding: .utf8)
            #expect(sent.contains("\"seeing\"") && sent.contains("What happens here?"))
            #expect(sent.contains("data:image/jpeg;base64,/9j/"))

            let direct = folder.file("direct.mkv")
            try await generate([Self.caption, "--output", direct] + EndToEnd.small, in: folder)
            let frames = try await MediaFile.frameHashes(captioned, in: folder)
            #expect(frames == (try await MediaFile.frameHashes(direct, in: folder)))

            // The file says the caption, so it can be made again without the clip and without the service.
            let tags = try await MediaFile(probing: captioned, in: folder).tags
            #expect(tags["title"] == Self.caption)
            #expect(tags["comment"]?.contains(#""prompt_origin":{"kind":"caption"}"#) == true)
            let replay = try await run("zoetrope", ["replay", captioned], in: folder)
            #expect(replay.status == 0, "\(replay.everything)")
            #expect(replay.output.contains("bit-identical frames"))
        }

        @Test("several videos of one clip share one caption, also those that are made later", .timeLimit(.minutes(3)))
        func several() async throws {
            let folder = try TemporaryFolder(), source = folder.file("source.mkv"), videos = folder.file("videos")
            let requests = folder.file("requests.json")
            try await generate([EndToEnd.prompt, "--output", source] + EndToEnd.small, in: folder)
            let (server, address) = try await chat(folder, requests)
            defer { server.send(SIGTERM) }
            let arguments =
                [
                    "--caption-of", source, "--upsampler-base-url", address, "--num-videos", "2",
                    "--output-directory", videos, "--container", "mkv",
                ] + EndToEnd.small
            func asked() throws -> Int {
                try String(contentsOfFile: requests, encoding: .utf8).split(separator: "\n").count
            }
            try await generate(arguments, in: folder)
            #expect(try asked() == 1)
            let names = ["0001-source-s7.mkv", "0001-source-s8.mkv", "contact-sheet.png"]
            #expect(try FileManager.default.contentsOfDirectory(atPath: videos).sorted() == names)
            let second = "\(videos)/\(names[1])", frames = try await MediaFile.frameHashes(second, in: folder)
            #expect(try await MediaFile(probing: second, in: folder).tags["title"] == Self.caption)
            #expect(frames != (try await MediaFile.frameHashes("\(videos)/\(names[0])", in: folder)))

            try FileManager.default.removeItem(atPath: second)
            try await generate(arguments, in: folder)
            #expect(try asked() == 1, "the first video's file says the caption")
            #expect(try await MediaFile.frameHashes(second, in: folder) == frames)
        }

        @Test("without a service that answers the job fails and says why", .timeLimit(.minutes(2)))
        func unreachable() async throws {
            let folder = try TemporaryFolder(), source = folder.file("source.mkv")
            try await generate([EndToEnd.prompt, "--output", source] + EndToEnd.small, in: folder)
            let nobody = try await run(
                "zoetrope", ["generate", "--caption-of", source, "--output", folder.file("x.mkv")] + EndToEnd.small,
                in: folder)
            #expect(nobody.status != 0 && nobody.everything.contains("captioner_missing"))
            let gone = try await run(
                "zoetrope",
                [
                    "generate", "--caption-of", source, "--upsampler-base-url", "http://127.0.0.1:\(try freePort())/v1",
                    "--output", folder.file("x.mkv"),
                ] + EndToEnd.small, in: folder)
            #expect(gone.status != 0 && gone.everything.contains("caption_failed"))
        }
    }
}
