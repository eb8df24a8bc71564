import Failure
import Foundation
import PromptUpsamplerService
import Stage
import Tensor
import Testing

@Suite(.timeLimit(.minutes(1)))
struct PromptUpsamplerTests {
    private static let key = "sk-secret-1234"

    private func upsample(_ prompt: String, _ endpoint: ChatEndpoint?) async throws -> (text: String, notes: [String]) {
        let parameters = try JSONSerialization.data(withJSONObject: ["prompt": prompt])
        let task = StageTask(
            name: "job/upsample", attempt: 1, parameters: String(decoding: parameters, as: UTF8.self),
            port: LocalPort(inputs: [:]))
        let result = try await PromptUpsamplerHandler(endpoint: endpoint).run(task)
        let bytes = try #require(result.output("prompt")).withUnsafeBytes { Array($0) }
        return (String(decoding: bytes, as: UTF8.self), result.notes)
    }

    private func endpoint(_ server: ChatServer) throws -> ChatEndpoint {
        try ChatEndpoint(baseURL: server.baseURL, model: "test-model", apiKey: Self.key, timeout: 10)
    }

    @Test("the caption of the chat model takes the place of the prompt, without surrounding white space")
    func caption() async throws {
        let server = ChatServer([.caption(#"  A cat sits on a \"warm\" wall.\n"#)])
        defer { server.stop() }
        let (text, notes) = try await upsample("a cat", endpoint(server))
        #expect(text == #"A cat sits on a "warm" wall."#)
        #expect(notes == [#"The prompt was expanded to: A cat sits on a "warm" wall."#])
    }

    @Test("the request has the path, key, sampling values, system text and examples that chat services expect")
    func request() async throws {
        let server = ChatServer([.caption("x")])
        defer { server.stop() }
        _ = try await upsample("a \"cat\"", endpoint(server))
        let request = try #require(server.requests.first)
        #expect(request.hasPrefix("POST /v1/chat/completions HTTP/1.1"))
        #expect(request.contains("Authorization: Bearer \(Self.key)"))
        let body = try #require(request.range(of: "\r\n\r\n").map { request[$0.upperBound...] })
        let json = try #require(try JSONSerialization.jsonObject(with: Data(body.utf8)) as? [String: Any])
        #expect(json["model"] as? String == "test-model")
        #expect(json["temperature"] as? Double == 0.01)
        #expect(json["top_p"] as? Double == 0.7)
        #expect(json["max_tokens"] as? Int == 250)
        #expect(json["stream"] as? Bool == false)
        let messages = try #require(json["messages"] as? [[String: String]])
        #expect(
            messages.compactMap { $0["role"] } == [
                "system", "user", "assistant", "user", "assistant", "user", "assistant", "user",
            ])
        #expect(messages.last?["content"]?.contains("a \"cat\"") == true)
        let lengths = messages.filter { $0["role"] == "assistant" }.compactMap {
            $0["content"]?.split(separator: " ").count
        }
        #expect(lengths.allSatisfy { (75...110).contains($0) }, "examples set the length of the answer: \(lengths)")
    }

    @Test("an answer without choices, an empty one and an overloaded service are tried again")
    func threeTries() async throws {
        let server = ChatServer([
            ChatServer.Answer(body: #"{"choices":[]}"#), ChatServer.Answer(status: 503, body: "busy"),
            .caption("third"),
        ])
        defer { server.stop() }
        #expect(try await upsample("a cat", endpoint(server)).text == "third")
        #expect(server.requests.count == 3)
    }

    @Test("after three failed tries the prompt goes on unchanged and the note says why")
    func fallback() async throws {
        let server = ChatServer([.caption(" "), .caption(""), ChatServer.Answer(body: "not json")])
        defer { server.stop() }
        let (text, notes) = try await upsample("a cat ", endpoint(server))
        #expect(text == "a cat ")
        #expect(server.requests.count == 3)
        #expect(notes.count == 1)
        #expect(notes[0].hasPrefix("The prompt went in unchanged: test-model at http://127.0.0.1:"))
        #expect(notes[0].contains("did not answer with a chat completion"))
    }

    @Test("a refused key is not tried again and appears in no note and no description", arguments: [401, 404, 307])
    func refusal(status: Int) async throws {
        let server = ChatServer([
            ChatServer.Answer(
                status: status, body: #"{"error":{"message":"Incorrect API key provided: \#(Self.key)"}}"#,
                headers: "Location: http://127.0.0.1:1/elsewhere\r\n")
        ])
        defer { server.stop() }
        let endpoint = try endpoint(server)
        let (text, notes) = try await upsample("a cat", endpoint)
        #expect(text == "a cat")
        #expect(server.requests.count == 1)
        #expect(notes[0].contains("status \(status)"))
        #expect(!notes[0].contains("secret"))
        #expect(!"\(endpoint) \(String(reflecting: endpoint))".contains("secret"))
        var dumped = ""
        dump(endpoint, to: &dumped)
        #expect(!dumped.contains("secret"))
    }

    @Test("an unreachable service and no service at all leave the prompt unchanged")
    func unreachable() async throws {
        let gone = try ChatEndpoint(baseURL: "http://127.0.0.1:1/v1/", model: "m", apiKey: nil, timeout: 5)
        let (text, notes) = try await upsample("a cat", gone)
        #expect(text == "a cat")
        #expect(notes[0].contains("cannot be reached"))
        let (kept, reasons) = try await upsample("a dog", nil)
        #expect(kept == "a dog")
        #expect(reasons == ["The prompt went in unchanged: no chat endpoint is configured (--base-url)."])
    }

    @Test("an address that is not http is refused by name", arguments: ["ftp://host/v1", "host", ""])
    func badAddress(text: String) {
        #expect {
            try ChatEndpoint(baseURL: text, model: "m", apiKey: nil)
        } throws: { error in
            (error as? Failure)?.code == "base_url_invalid"
        }
    }
}
