import Foundation
import Testing

#if canImport(FoundationNetworking)
import FoundationNetworking
#endif

/// A video as the gateway tells it: the fields these tests read.
struct Video: Decodable, Sendable {
    struct Stage: Decodable, Sendable {
        let task: String
        let stage: String
        let state: String
        let worker: String
        let attempt: Int
        let step: Int
        let notes: [String]

        /// Whether a worker has the task now.
        var isHeld: Bool { state == "running" }
    }

    struct Problem: Decodable, Sendable {
        let code: String
        let message: String
    }

    let id: String
    let status: String
    let error: Problem?
    let stages: [Stage]?

    private enum CodingKeys: String, CodingKey {
        case id, status, error
        case stages = "x_stages"
    }

    func stage(_ name: String) -> Stage? { stages?.first { $0.stage == name } }

    var isTerminal: Bool { status == "completed" || status == "failed" }
}

/// An HTTP answer.
struct Answer: Sendable {
    let status: Int
    let body: Data
    let contentType: String

    var text: String { String(decoding: body, as: UTF8.self) }

    /// `error.code` of an OpenAI-shaped error.
    var errorCode: String? {
        struct Envelope: Decodable {
            struct Problem: Decodable { let code: String? }
            let error: Problem
        }
        return try? JSONDecoder().decode(Envelope.self, from: body).error.code
    }
}

/// Runs `body` against a cluster of its own, stops the cluster whatever happens, and requires that it stops in order.
func withCluster(
    workers: String? = nil, model: String? = nil, leaseSeconds: Int = 3, options: [String] = [],
    _ body: (Cluster) async throws -> Void
) async throws {
    let cluster = try await Cluster(workers: workers, model: model, leaseSeconds: leaseSeconds, options: options)
    do {
        try await body(cluster)
    } catch {
        _ = try? await cluster.stop()
        throw error
    }
    let status = try await cluster.stop()
    #expect(status == 128 + SIGTERM, "serve ended with \(status): \(cluster.log.suffix(2000))")
}

/// `zoetrope serve` in a folder of its own, reached over HTTP.
final class Cluster: Sendable {
    let folder: TemporaryFolder
    let server: String
    private let process: Subprocess

    /// Starts the cluster and waits until it says that every stage is up.
    fileprivate init(workers: String?, model: String?, leaseSeconds: Int, options: [String]) async throws {
        folder = try TemporaryFolder()
        let address = "127.0.0.1:\(try freePort())"
        server = "http://\(address)"
        var arguments = [
            "serve", "--listen", address, "--run-directory", folder.file("run"), "--data-directory",
            folder.file("data"), "--lease-seconds", String(leaseSeconds),
        ]
        if let workers { arguments += ["--workers", workers] }
        if let model { arguments += ["--model", model] }
        process = try Subprocess(
            Executables.path("zoetrope"), arguments + options, in: folder, name: "serve")
        do {
            try await waitUntilUp()
        } catch {
            process.send(SIGTERM)
            throw error
        }
    }

    private func waitUntilUp() async throws {
        let started = ContinuousClock.now
        while !process.output.contains("serving") {
            try #require(process.process.isRunning, "serve died: \(process.output)\(process.errors)")
            try #require(ContinuousClock.now - started < .seconds(60), "serve is not up: \(process.errors)")
            try await Task.sleep(for: .milliseconds(20))
        }
    }

    /// What the services have logged so far.
    var log: String { process.output + process.errors }

    /// SIGTERM, and the exit status.
    fileprivate func stop() async throws -> Int32 {
        process.send(SIGTERM)
        return try await process.result(timeout: .seconds(30)).status
    }

    /// Process id of a service by its executable and, where it has one, its `--name`.
    func processIdentifier(_ executable: String, name: String? = nil) throws -> Int32 {
        for entry in try FileManager.default.contentsOfDirectory(atPath: "/proc") {
            guard let identifier = Int32(entry), parent(of: identifier) == process.identifier,
                let line = FileManager.default.contents(atPath: "/proc/\(entry)/cmdline")
            else { continue }
            let words = line.split(separator: 0).map { String(decoding: $0, as: UTF8.self) }
            guard words.first?.hasSuffix("/\(executable)") ?? false else { continue }
            if let name, !words.contains(name) { continue }
            return identifier
        }
        throw POSIXError(.ESRCH)
    }

    private func parent(of identifier: Int32) -> Int32? {
        guard let status = try? String(contentsOfFile: "/proc/\(identifier)/stat", encoding: .utf8) else { return nil }
        let fields = status[(status.lastIndex(of: ")") ?? status.startIndex)...].split(separator: " ")
        return fields.count > 2 ? Int32(fields[2]) : nil
    }
}

extension Cluster {
    func request(
        _ method: String, _ path: String, body: Data? = nil, headers: [String: String] = [:]
    ) async throws
        -> Answer
    {
        var request = URLRequest(url: try #require(URL(string: server + path)))
        request.httpMethod = method
        request.httpBody = body
        request.timeoutInterval = 60
        for (name, value) in headers { request.setValue(value, forHTTPHeaderField: name) }
        let (data, response) = try await URLSession.shared.data(for: request)
        let http = try #require(response as? HTTPURLResponse)
        return Answer(
            status: http.statusCode, body: data, contentType: http.value(forHTTPHeaderField: "Content-Type") ?? "")
    }

    func post(_ json: String, headers: [String: String] = [:]) async throws -> Answer {
        try await request(
            "POST", "/v1/videos", body: Data(json.utf8),
            headers: headers.merging(["Content-Type": "application/json"]) { given, _ in given })
    }

    /// Submits a request that must be accepted.
    func submit(_ json: String) async throws -> Video {
        let answer = try await post(json)
        try #require((200..<300).contains(answer.status), "\(json) was refused: \(answer.text)")
        return try JSONDecoder().decode(Video.self, from: answer.body)
    }

    func video(_ id: String) async throws -> Video {
        let answer = try await request("GET", "/v1/videos/\(id)")
        try #require(answer.status == 200, "\(answer.text)")
        return try JSONDecoder().decode(Video.self, from: answer.body)
    }

    /// Asks for the status until `condition` holds; fails with the last status and the log after `timeout`.
    func wait(_ id: String, timeout: Duration = .seconds(90), until condition: (Video) -> Bool) async throws -> Video {
        let started = ContinuousClock.now
        while true {
            let video = try await video(id)
            if condition(video) { return video }
            let tooLate = ContinuousClock.now - started > timeout || video.isTerminal
            try #require(!tooLate, "\(video)\n\(log.suffix(4000))")
            try await Task.sleep(for: .milliseconds(5))
        }
    }

    /// Waits for success and returns the final status.
    func finished(_ id: String, timeout: Duration = .seconds(90)) async throws -> Video {
        let video = try await wait(id, timeout: timeout) { $0.isTerminal }
        try #require(video.status == "completed", "\(video)\n\(log.suffix(4000))")
        return video
    }

    /// Downloads the finished video to a file in the cluster's folder.
    func download(_ id: String, as name: String) async throws -> String {
        let answer = try await request("GET", "/v1/videos/\(id)/content")
        try #require(answer.status == 200, "\(answer.text)")
        let path = folder.file(name)
        try answer.body.write(to: URL(fileURLWithPath: path))
        return path
    }
}

/// A TCP port of 127.0.0.1 that nobody listens on now.
func freePort() throws -> UInt16 {
    let descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
    defer { close(descriptor) }
    var address = sockaddr_in()
    address.sin_family = sa_family_t(AF_INET)
    address.sin_addr.s_addr = inet_addr("127.0.0.1")
    var length = socklen_t(MemoryLayout<sockaddr_in>.size)
    let status = withUnsafeMutablePointer(to: &address) { pointer in
        pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { generic in
            bind(descriptor, generic, length) == 0 ? getsockname(descriptor, generic, &length) : -1
        }
    }
    try #require(status == 0)
    return UInt16(bigEndian: address.sin_port)
}
