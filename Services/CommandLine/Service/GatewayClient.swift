package import Bus
package import Failure
package import Foundation
import FoundationNetworking
package import Tensor

/// The gateway's HTTP API as Swift calls. Every refusal of the server arrives as a `Failure` with the server's code.
package struct GatewayClient: Sendable {
    private let base: URL
    private let session: URLSession
    private let adminToken: AdminToken?

    /// - Parameters:
    ///   - server: `http://host:port`.
    ///   - adminToken: shown with every request, where the gateway tells administrators by one.
    package init(server: String, adminToken: AdminToken? = nil) throws(Failure) {
        guard let url = URL(string: server), let scheme = url.scheme, scheme == "http" || scheme == "https",
            url.host() != nil
        else {
            throw Failure(
                "server_address_invalid", "\"\(server)\" is no server address", field: "server",
                remedy: "Write http://HOST:PORT.")
        }
        base = url
        self.adminToken = adminToken
        let configuration = URLSessionConfiguration.ephemeral
        configuration.timeoutIntervalForRequest = 120
        session = URLSession(configuration: configuration)
    }

    /// `GET /healthz`: how many workers each stage has now; empty while the broker cannot be reached.
    package func workers() async throws(Failure) -> [String: Int] {
        struct Health: Decodable {
            struct Stage: Decodable { var workers: Int }
            var stages: [String: Stage]
        }
        let (data, _) = try await exchange(request("GET", "healthz"))
        return try decode(Health.self, from: data).stages.mapValues(\.workers)
    }

    /// `POST /v1/videos` with a JSON body.
    /// - Parameter deadline: from now; the job fails when it is not done by then.
    package func create(
        _ body: Data, idempotencyKey: String?, priority: Int = 0, deadline: TimeSpan? = nil
    ) async throws(Failure) -> VideoStatus {
        let request = creation(body, idempotencyKey: idempotencyKey, priority: priority, deadline: deadline)
        return try decode(VideoStatus.self, from: try await checked(request))
    }

    /// As `create`, of a body that says how many videos it wants (`n`): one job a video, in the order of their seeds.
    package func createSeveral(
        _ body: Data, idempotencyKey: String?, priority: Int = 0, deadline: TimeSpan? = nil
    ) async throws(Failure) -> [VideoStatus] {
        let request = creation(body, idempotencyKey: idempotencyKey, priority: priority, deadline: deadline)
        return try decode(VideoList.self, from: try await checked(request)).data
    }

    private func creation(
        _ body: Data, idempotencyKey: String?, priority: Int, deadline: TimeSpan?
    ) -> URLRequest {
        var request = request("POST", "v1/videos")
        request.httpBody = body
        request.setValue("application/json", forHTTPHeaderField: "Content-Type")
        if let idempotencyKey { request.setValue(idempotencyKey, forHTTPHeaderField: "Idempotency-Key") }
        if priority != 0 { request.setValue("\(priority)", forHTTPHeaderField: "Zoetrope-Priority") }
        if let deadline { request.setValue("\(deadline.seconds)", forHTTPHeaderField: "Zoetrope-Deadline") }
        return request
    }

    package func status(_ id: String) async throws(Failure) -> VideoStatus {
        try decode(VideoStatus.self, from: try await checked(request("GET", "v1/videos/\(id)")))
    }

    package func list(limit: Int) async throws(Failure) -> VideoList {
        try decode(VideoList.self, from: try await checked(request("GET", "v1/videos", query: "limit=\(limit)")))
    }

    package func cancel(_ id: String) async throws(Failure) {
        _ = try await checked(request("DELETE", "v1/videos/\(id)"))
    }

    /// `POST /v1/videos/{id}/reencode` with a JSON body; the new job.
    package func reencode(_ id: String, _ body: Data, idempotencyKey: String?) async throws(Failure) -> VideoStatus {
        var request = request("POST", "v1/videos/\(id)/reencode")
        request.httpBody = body
        request.setValue("application/json", forHTTPHeaderField: "Content-Type")
        if let idempotencyKey { request.setValue(idempotencyKey, forHTTPHeaderField: "Idempotency-Key") }
        return try decode(VideoStatus.self, from: try await checked(request))
    }

    /// `POST /v1/videos/{id}/continue`; the new job.
    package func proceed(_ id: String, idempotencyKey: String?) async throws(Failure) -> VideoStatus {
        var request = request("POST", "v1/videos/\(id)/continue")
        if let idempotencyKey { request.setValue(idempotencyKey, forHTTPHeaderField: "Idempotency-Key") }
        return try decode(VideoStatus.self, from: try await checked(request))
    }

    /// `GET /v1/workers`.
    package func workerList() async throws(Failure) -> WorkerList {
        try decode(WorkerList.self, from: try await checked(request("GET", "v1/workers")))
    }

    /// `POST /v1/drain`.
    package func drain(_ order: DrainOrder) async throws(Failure) -> DrainAnswer {
        var request = request("POST", "v1/drain")
        request.httpBody = try? JSONEncoder().encode(order)
        request.setValue("application/json", forHTTPHeaderField: "Content-Type")
        return try decode(DrainAnswer.self, from: try await checked(request))
    }

    /// `GET /v1/dead`.
    package func deadList(limit: Int) async throws(Failure) -> DeadVideoList {
        try decode(DeadVideoList.self, from: try await checked(request("GET", "v1/dead", query: "limit=\(limit)")))
    }

    /// `GET /v1/dead/{id}`, with the evidence.
    package func dead(_ id: String) async throws(Failure) -> DeadVideo {
        try decode(DeadVideo.self, from: try await checked(request("GET", "v1/dead/\(id)")))
    }

    /// `POST /v1/dead/{id}/retry`; the new job.
    package func retryDead(_ id: String, idempotencyKey: String?) async throws(Failure) -> VideoStatus {
        var request = request("POST", "v1/dead/\(id)/retry")
        if let idempotencyKey { request.setValue(idempotencyKey, forHTTPHeaderField: "Idempotency-Key") }
        return try decode(VideoStatus.self, from: try await checked(request))
    }

    /// `GET /v1/videos/{id}/content`; variant video, thumbnail or spritesheet.
    package func content(_ id: String, variant: String) async throws(Failure) -> Data {
        try await checked(request("GET", "v1/videos/\(id)/content", query: "variant=\(variant)"))
    }

    /// `GET /v1/videos/{id}/tensors/{name}`: one stored tensor (`denoise.latents`) under its output's name.
    package func tensor(_ id: String, name: String) async throws(Failure) -> Tensor {
        let data = try await checked(request("GET", "v1/videos/\(id)/tensors/\(name)"))
        let file = try SafetensorsFile(bytes: Tensor(bytes: Array(data)))
        guard let key = file.names.first else {
            throw Failure("corrupt_safetensors", "the server's answer for \(name) holds no tensor", field: name)
        }
        return try file.tensor(key)
    }

    /// `POST /v1/tensors` with a safetensors file of one tensor; the answer's id goes into a request.
    package func upload(_ tensor: Tensor, name: String) async throws(Failure) -> String {
        var request = request("POST", "v1/tensors")
        let encoded = SafetensorsWriter.encode([(name, tensor)])
        request.httpBody = encoded.withUnsafeBytes { Data($0) }
        request.setValue("application/octet-stream", forHTTPHeaderField: "Content-Type")
        struct Answer: Decodable { var id: String }
        return try decode(Answer.self, from: try await checked(request)).id
    }

    /// `POST /v1/media`: the id of a stored picture or clip.
    package func upload(media: Data) async throws(Failure) -> String {
        var request = request("POST", "v1/media")
        request.httpBody = media
        request.setValue("application/octet-stream", forHTTPHeaderField: "Content-Type")
        struct Answer: Decodable { var id: String }
        return try decode(Answer.self, from: try await checked(request)).id
    }

    /// Follows a job: every status the server sends on its event stream, ending with the terminal one.
    package func watch(_ id: String) -> AsyncThrowingStream<VideoStatus, any Error> {
        EventStream.statuses(
            request: request("GET", "v1/videos/\(id)/events"),
            poll: { () async throws(Failure) in try await status(id) })
    }

    /// Pictures of what a running job is about to become; the server makes them only while they are read.
    package func previews(_ id: String) -> AsyncStream<PreviewFiles.Picture> {
        EventStream.pictures(request: request("GET", "v1/videos/\(id)/previews"))
    }

    private func request(_ method: String, _ path: String, query: String? = nil) -> URLRequest {
        var components = URLComponents(url: base.appending(path: path), resolvingAgainstBaseURL: false)
        components?.query = query
        var request = URLRequest(url: components?.url ?? base.appending(path: path))
        request.httpMethod = method
        if let adminToken { request.setValue("Bearer \(adminToken.text)", forHTTPHeaderField: "Authorization") }
        return request
    }

    private func checked(_ request: URLRequest) async throws(Failure) -> Data {
        let (data, response) = try await exchange(request)
        guard (200..<300).contains(response.statusCode) else { throw refusal(data, status: response.statusCode) }
        return data
    }

    private func exchange(_ request: URLRequest) async throws(Failure) -> (Data, HTTPURLResponse) {
        do {
            let (data, response) = try await session.data(for: request)
            guard let response = response as? HTTPURLResponse else { throw URLError(.badServerResponse) }
            return (data, response)
        } catch {
            throw Failure(
                "server_unreachable", "\(base.absoluteString): \(error.localizedDescription)", field: "server",
                remedy: "Start one with `zoetrope serve`, or name it with --server.")
        }
    }

    private func refusal(_ data: Data, status: Int) -> Failure {
        struct Answer: Decodable {
            struct Problem: Decodable {
                var code: String?
                var message: String
                var param: String?
            }
            var error: Problem
        }
        guard let answer = try? JSONDecoder().decode(Answer.self, from: data) else {
            return Failure(
                "http_\(status)", "the server answered \(status): \(String(decoding: data.prefix(200), as: UTF8.self))")
        }
        return Failure(answer.error.code ?? "http_\(status)", answer.error.message, field: answer.error.param)
    }

    private func decode<Value: Decodable>(_ type: Value.Type, from data: Data) throws(Failure) -> Value {
        do {
            return try JSONDecoder().decode(type, from: data)
        } catch {
            throw Failure("server_answer_invalid", "the server's answer is no \(type): \(error)")
        }
    }
}
