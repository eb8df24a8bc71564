import Failure
import Foundation
import PromptUpsamplerService
import Stage
import Tensor
import Testing

@Suite(.timeLimit(.minutes(1)))
struct CaptionTests {
    private func frames(_ count: Int) -> Tensor {
        var clip = Tensor(uninitialized: [count, 32, 48, 3], dtype: .uint8)
        clip.withUnsafeMutableBytes { target in
            for index in target.indices { target[index] = UInt8(truncatingIfNeeded: index / (32 * 48 * 3) * 60) }
        }
        return clip
    }

    private func caption(_ handler: PromptUpsamplerHandler, _ count: Int = 3) async throws -> StageResult {
        try await handler.run(
            StageTask(
                name: "job/caption", attempt: 1, parameters: "{}", port: LocalPort(inputs: ["frames": frames(count)])))
    }

    private func failure(_ handler: PromptUpsamplerHandler) async -> Failure? {
        do {
            _ = try await caption(handler)
            return nil
        } catch {
            return error as? Failure
        }
    }

    private func endpoint(_ server: ChatServer, model: String = "seeing", timeout: Double = 10) throws -> ChatEndpoint {
        try ChatEndpoint(baseURL: server.baseURL, model: model, apiKey: nil, timeout: timeout)
    }

    @Test("the frames go to the chat service as JPEG data URLs after the instruction, and its answer is the prompt")
    func request() async throws {
        let server = ChatServer([.caption(" A red boat drifts. ")])
        defer { server.stop() }
        let result = try await caption(PromptUpsamplerHandler(endpoint: try endpoint(server)))
        let text = try #require(result.output("prompt")).withUnsafeBytes { String(decoding: $0, as: UTF8.self) }
        #expect(text == "A red boat drifts.")
        #expect(result.notes == ["The clip was captioned: A red boat drifts."])
        let sent = try #require(server.requests.first)
        let body = try #require(sent.range(of: "\r\n\r\n").map { sent[$0.upperBound...] })
        let json = try #require(try JSONSerialization.jsonObject(with: Data(body.utf8)) as? [String: Any])
        #expect(json["model"] as? String == "seeing")
        let messages = try #require(json["messages"] as? [[String: Any]])
        #expect(messages.count == 1 && messages[0]["role"] as? String == "user")
        let parts = try #require(messages[0]["content"] as? [[String: Any]])
        #expect(parts.compactMap { $0["type"] as? String } == ["text", "image_url", "image_url", "image_url"])
        #expect(parts[0]["text"] as? String == ClipCaption.instruction)
        for part in parts.dropFirst() {
            let url = try #require((part["image_url"] as? [String: String])?["url"])
            #expect(url.hasPrefix("data:image/jpeg;base64,"))
            let jpeg = try #require(Data(base64Encoded: String(url.dropFirst("data:image/jpeg;base64,".count))))
            #expect(jpeg.prefix(2) == Data([0xff, 0xd8]))
        }
    }

    @Test("another model and another question can be configured for clips")
    func configured() async throws {
        let server = ChatServer([.caption("x")])
        defer { server.stop() }
        let handler = PromptUpsamplerHandler(
            endpoint: try endpoint(server, model: "blind"), captioner: try endpoint(server), captionPrompt: "What?")
        _ = try await caption(handler)
        let sent = try #require(server.requests.first)
        #expect(sent.contains(#""seeing""#) && sent.contains(#""What?""#) && !sent.contains("blind"))
    }

    @Test("a service that refuses ends the job at once, and its words are not repeated", arguments: [401, 404])
    func refused(status: Int) async throws {
        let server = ChatServer([ChatServer.Answer(status: status, body: "key sk-secret")])
        defer { server.stop() }
        let failure = await failure(PromptUpsamplerHandler(endpoint: try endpoint(server)))
        #expect(failure?.code == "caption_failed" && failure?.retry == .never)
        #expect(failure?.message.contains("status \(status)") == true)
        #expect(failure?.message.contains("secret") == false)
        #expect(server.requests.count == 1)
    }

    @Test("a service that answers nothing is asked three times, then the job may be tried again")
    func nothing() async throws {
        let server = ChatServer([.caption(" "), ChatServer.Answer(body: #"{"choices":[]}"#), .caption("")])
        defer { server.stop() }
        let failure = await failure(PromptUpsamplerHandler(endpoint: try endpoint(server)))
        #expect(failure?.code == "caption_failed" && failure?.retry == .sameWorker)
        #expect(server.requests.count == 3)
    }

    @Test("a service that does not answer in time, one that is not there and none at all fail the task")
    func silent() async throws {
        let slow = SilentServer()
        defer { slow.stop() }
        let late = try ChatEndpoint(baseURL: slow.baseURL, model: "m", apiKey: nil, timeout: 1)
        let gone = try ChatEndpoint(baseURL: "http://127.0.0.1:1/v1", model: "m", apiKey: nil, timeout: 5)
        for endpoint in [late, gone, nil] {
            #expect(await failure(PromptUpsamplerHandler(endpoint: endpoint))?.code == "caption_failed")
        }
    }

    @Test("an answer that is too long for a prompt is none")
    func tooLong() async throws {
        let server = ChatServer([.caption(String(repeating: "very ", count: 2000) + "long")])
        defer { server.stop() }
        #expect(await failure(PromptUpsamplerHandler(endpoint: try endpoint(server)))?.code == "caption_failed")
    }
}

/// A server on loopback that takes connections and never answers.
final class SilentServer: Sendable {
    private let descriptor: Int32
    private let port: UInt16

    init() { (descriptor, port) = listenOnLoopback() }

    var baseURL: String { "http://127.0.0.1:\(port)/v1" }

    func stop() { close(descriptor) }
}
