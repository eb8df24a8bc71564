import Foundation
import Testing

extension EndToEnd {
    /// The prompt upsampler against `fake_chat_server.py`, which answers as an OpenAI-compatible server does.
    @Suite("The prompt upsampler")
    struct UpsamplerTests {
        static let server = URL(fileURLWithPath: #filePath).deletingLastPathComponent()
            .appendingPathComponent("fake_chat_server.py").path

        @Test(
            "the prompt is rewritten by the chat server before it is encoded, and the key stays secret",
            .timeLimit(.minutes(2)))
        func rewritten() async throws {
            let folder = try TemporaryFolder()
            let python = try #require(Executables.system("python3"), "python3 is not installed: run `make setup`")
            let requests = folder.file("requests.json")
            let chat = try Subprocess(
                python, [Self.server, requests, "snow falling at night over white hills"], in: folder, name: "chat")
            defer { chat.send(SIGTERM) }
            while !chat.output.contains("\n") {
                try #require(chat.process.isRunning, "\(chat.errors)")
                try await Task.sleep(for: .milliseconds(20))
            }
            let port = chat.output.trimmingCharacters(in: .whitespacesAndNewlines)
            let upsampled = folder.file("upsampled.mkv")
            let result = try await generate(
                [
                    "a winter night", "--upsample-prompt", "--upsampler-base-url", "http://127.0.0.1:\(port)/v1",
                    "--upsampler-model", "tiny", "--output", upsampled,
                ] + EndToEnd.small, in: folder, environment: ["ZOETROPE_UPSAMPLER_API_KEY": "sk-secret-4711"])
            #expect(!result.everything.contains("sk-secret-4711"))
            let sent = try String(contentsOfFile: requests, encoding: .utf8)
            #expect(sent.contains("/v1/chat/completions") && sent.contains("a winter night"))
            #expect(sent.contains("Bearer sk-secret-4711") && sent.contains("\"tiny\""))

            let direct = folder.file("direct.mkv")
            try await generate(
                ["snow falling at night over white hills", "--output", direct] + EndToEnd.small, in: folder)
            let frames = try await MediaFile.frameHashes(upsampled, in: folder)
            #expect(frames == (try await MediaFile.frameHashes(direct, in: folder)))
        }

        @Test("without an answer the prompt goes in unchanged and the job says so", .timeLimit(.minutes(2)))
        func unreachable() async throws {
            let folder = try TemporaryFolder()
            let port = try freePort()
            let result = try await generate(
                [EndToEnd.prompt, "--upsample-prompt", "--upsampler-base-url", "http://127.0.0.1:\(port)/v1"]
                    + EndToEnd.small, in: folder)
            #expect(result.everything.contains("unchanged"), "\(result.everything)")
        }
    }
}
