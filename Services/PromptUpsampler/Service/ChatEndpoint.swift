package import Failure
import Foundation
import FoundationNetworking

/// An OpenAI-compatible chat service: where it is, which model answers, and the key, which is never printed.
package struct ChatEndpoint: Sendable, CustomStringConvertible, CustomReflectable {
    private let completions: URL
    private let model: String
    private let apiKey: String?
    private let timeout: Double

    /// - Parameters:
    ///   - baseURL: what comes before `/chat/completions`: `https://api.openai.com/v1`.
    ///   - apiKey: sent as a bearer token where given.
    ///   - timeout: seconds for one try.
    ///
    /// Fails with `base_url_invalid` when the URL is not http or https.
    package init(baseURL: String, model: String, apiKey: String?, timeout: Double = 60) throws(Failure) {
        var trimmed = baseURL
        while trimmed.hasSuffix("/") { trimmed.removeLast() }
        guard let url = URL(string: trimmed + "/chat/completions"), url.scheme == "http" || url.scheme == "https",
            url.host != nil
        else {
            throw Failure(
                "base_url_invalid", "\(baseURL) is not an http or https address", field: "base-url",
                remedy: "Give what comes before /chat/completions, such as http://127.0.0.1:11434/v1.")
        }
        completions = url
        self.model = model
        self.apiKey = apiKey.flatMap { $0.isEmpty ? nil : $0 }
        // Parts of a second count as none, and none would be for ever.
        self.timeout = max(1, timeout.rounded(.up))
    }

    package var description: String { "\(model) at \(completions.absoluteString)" }
    package var customMirror: Mirror { Mirror(self, children: ["endpoint": description]) }

    /// One try: the text of the first choice, without surrounding white space.
    ///
    /// Fails with `chat_unreachable`, `chat_refused` (a status that another try will not change), `chat_busy` or
    /// `chat_answer_invalid` (no choices, an empty text, not JSON).
    func complete(_ messages: [ChatMessage]) async throws(Failure) -> String {
        var request = URLRequest(url: completions, timeoutInterval: timeout)
        request.httpMethod = "POST"
        request.setValue("application/json", forHTTPHeaderField: "Content-Type")
        if let apiKey { request.setValue("Bearer \(apiKey)", forHTTPHeaderField: "Authorization") }
        let body = ChatRequest(
            model: model, messages: messages, temperature: 0.01, topP: 0.7, maxTokens: 250, stream: false)
        let data: Data
        let response: URLResponse
        do {
            request.httpBody = try JSONEncoder().encode(body)
            // Of the request alone nothing is heard where the session has a limit of its own, which is a minute.
            let configuration = URLSessionConfiguration.ephemeral
            configuration.timeoutIntervalForRequest = timeout
            let session = URLSession(configuration: configuration, delegate: RedirectRefusal(), delegateQueue: nil)
            defer { session.finishTasksAndInvalidate() }
            (data, response) = try await session.data(for: request)
        } catch {
            throw Failure("chat_unreachable", "\(description) cannot be reached (\((error as NSError).code))")
        }
        try check((response as? HTTPURLResponse)?.statusCode ?? 0)
        guard let answer = try? JSONDecoder().decode(ChatAnswer.self, from: data) else {
            throw Failure("chat_answer_invalid", "\(description) did not answer with a chat completion")
        }
        let text = answer.choices.first?.message.content?.trimmingCharacters(in: .whitespacesAndNewlines) ?? ""
        guard !text.isEmpty else {
            throw Failure("chat_answer_invalid", "\(description) answered without a caption")
        }
        return text
    }

    /// The body of an error answer is never quoted: services repeat parts of the key in it.
    private func check(_ status: Int) throws(Failure) {
        switch status {
        case 200..<300: return
        case 408, 425, 429, 500...: throw Failure("chat_busy", "\(description) answered with status \(status)")
        default: throw Failure("chat_refused", "\(description) answered with status \(status)")
        }
    }
}

/// Follows no redirect: the key must not travel to an address nobody configured.
private final class RedirectRefusal: NSObject, URLSessionTaskDelegate {
    func urlSession(
        _ session: URLSession, task: URLSessionTask, willPerformHTTPRedirection response: HTTPURLResponse,
        newRequest request: URLRequest, completionHandler: @escaping @Sendable (URLRequest?) -> Void
    ) {
        completionHandler(nil)
    }
}

struct ChatMessage: Encodable, Sendable {
    var role: String
    var content: Content

    /// Text, or text and pictures in OpenAI's form.
    enum Content: Encodable, Sendable {
        case text(String)
        /// A text, and after it pictures as JPEG files.
        case pictures(String, [[UInt8]])

        func encode(to encoder: any Encoder) throws {
            switch self {
            case .text(let text):
                var container = encoder.singleValueContainer()
                try container.encode(text)
            case .pictures(let text, let files):
                var container = encoder.unkeyedContainer()
                try container.encode(Part(type: "text", text: text))
                for file in files {
                    let url = "data:image/jpeg;base64," + Data(file).base64EncodedString()
                    try container.encode(Part(type: "image_url", imageURL: Part.Link(url: url)))
                }
            }
        }

        private struct Part: Encodable {
            struct Link: Encodable { var url: String }
            var type: String
            var text: String?
            var imageURL: Link?

            enum CodingKeys: String, CodingKey {
                case type, text
                case imageURL = "image_url"
            }
        }
    }

    init(role: String, content: String) {
        self.role = role
        self.content = .text(content)
    }

    init(role: String, text: String, pictures: [[UInt8]]) {
        self.role = role
        content = .pictures(text, pictures)
    }
}

private struct ChatRequest: Encodable {
    var model: String
    var messages: [ChatMessage]
    var temperature: Double
    var topP: Double
    var maxTokens: Int
    var stream: Bool

    enum CodingKeys: String, CodingKey {
        case model, messages, temperature, stream
        case topP = "top_p"
        case maxTokens = "max_tokens"
    }
}

private struct ChatAnswer: Decodable {
    struct Choice: Decodable { var message: Message }
    struct Message: Decodable { var content: String? }
    var choices: [Choice]
}
