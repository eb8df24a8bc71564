import Foundation
import Synchronization
import Testing

#if canImport(FoundationNetworking)
import FoundationNetworking
#endif

/// Two brokers, one set of workers and a gateway, every process started by hand: nobody restarts what a test kills.
final class Cells: Sendable {
    static let names = ["north", "south"]

    let folder: TemporaryFolder
    let server: String
    private let brokers: Mutex<[String: Subprocess]>
    private let others: [Subprocess]

    /// Starts everything and waits until the gateway says that both cells could make a video.
    init(slots: Int = 1) async throws {
        folder = try TemporaryFolder()
        let port = try freePort()
        server = "http://127.0.0.1:\(port)"
        brokers = Mutex([:])
        let run = folder.file("run")
        let model = URL(fileURLWithPath: try Executables.path("zoetrope")).deletingLastPathComponent()
            .appendingPathComponent("zoetrope_DemoModel.resources/cogvideox-demo").path
        let list = Self.names.flatMap { ["--broker", "\($0)=ipc://\(run)/\($0).sock"] }
        let common = ["--run-directory", run] + list
        var started: [Subprocess] = []
        for stage in ["text-encoder", "denoiser", "vae-decoder", "video-muxer"] {
            let network = stage == "video-muxer" ? [] : ["--model", model]
            let arguments =
                common + network + [
                    "--name", "\(stage)-1", "--slots", "\(slots)", "--shutdown-grace", "5",
                ]
            started.append(try Subprocess(Executables.path("zoetrope-\(stage)"), arguments, in: folder, name: stage))
        }
        let front = common + ["--listen", "127.0.0.1:\(port)", "--model", model]
        started.append(try Subprocess(Executables.path("zoetrope-gateway"), front, in: folder, name: "gateway"))
        others = started
        for name in Self.names { try startBroker(name) }
        try await waitUntil("both cells are whole") {
            let health = try? await self.get("/healthz")
            return health?.text.components(separatedBy: "\"status\":\"ok\"").count == Self.names.count + 2
        }
    }

    /// Starts a cell's broker, on its ledger when there is one.
    func startBroker(_ name: String) throws {
        let broker = try Subprocess(
            Executables.path("zoetrope-broker"),
            [
                "--run-directory", folder.file("run"), "--data-directory", folder.file("data-\(name)"), "--cell", name,
                "--socket-name", name, "--beat-milliseconds", "200", "--lease-seconds", "5",
            ], in: folder, name: "broker-\(name)")
        brokers.withLock { $0[name] = broker }
    }

    /// SIGKILL to a cell's broker.
    func killBroker(_ name: String) {
        brokers.withLock { $0[name] }?.send(SIGKILL)
    }

    func stop() {
        for process in others + brokers.withLock({ Array($0.values) }) where process.process.isRunning {
            process.send(SIGKILL)
        }
    }

    var log: String {
        (others + brokers.withLock { Array($0.values) }).map { $0.errors.suffix(1500) }.joined(separator: "\n---\n")
    }

    // MARK: Over HTTP

    func request(_ method: String, _ path: String, body: String? = nil, key: String? = nil) async throws -> Answer {
        var request = URLRequest(url: try #require(URL(string: server + path)))
        request.httpMethod = method
        request.httpBody = body.map { Data($0.utf8) }
        request.timeoutInterval = 60
        if body != nil { request.setValue("application/json", forHTTPHeaderField: "Content-Type") }
        if let key { request.setValue(key, forHTTPHeaderField: "Idempotency-Key") }
        let (data, response) = try await URLSession.shared.data(for: request)
        let http = try #require(response as? HTTPURLResponse)
        return Answer(
            status: http.statusCode, body: data, contentType: http.value(forHTTPHeaderField: "Content-Type") ?? "")
    }

    func get(_ path: String) async throws -> Answer { try await request("GET", path) }

    /// Submits a job that must be taken; its id and its cell.
    func submit(_ json: String, key: String? = nil) async throws -> CellVideo {
        let answer = try await request("POST", "/v1/videos", body: json, key: key)
        try #require(answer.status == 200, "\(answer.text)\n\(log)")
        return try JSONDecoder().decode(CellVideo.self, from: answer.body)
    }

    func video(_ id: String) async throws -> CellVideo {
        let answer = try await get("/v1/videos/\(id)")
        try #require(answer.status == 200, "\(answer.text)")
        return try JSONDecoder().decode(CellVideo.self, from: answer.body)
    }

    /// Waits for the video's file and gives the hashes of its frames.
    func frames(of id: String, name: String) async throws -> [String] {
        try await waitUntil("\(id) is over") {
            // Its cell may be away for now.
            let answer = try await self.get("/v1/videos/\(id)")
            return (try? JSONDecoder().decode(CellVideo.self, from: answer.body))?.isTerminal == true
        }
        let video = try await video(id)
        try #require(video.status == "completed", "\(video)\n\(log)")
        let answer = try await get("/v1/videos/\(id)/content")
        try #require(answer.status == 200, "\(answer.text)")
        let path = folder.file("\(name).mkv")
        try answer.body.write(to: URL(fileURLWithPath: path))
        return try await MediaFile.frameHashes(path, in: folder)
    }

    func waitUntil(
        _ what: String, timeout: Duration = .seconds(90), _ condition: @Sendable () async throws -> Bool
    ) async throws {
        let started = ContinuousClock.now
        while try await !condition() {
            try #require(ContinuousClock.now - started < timeout, "not within \(timeout): \(what)\n\(log)")
            try await Task.sleep(for: .milliseconds(20))
        }
    }
}

/// A video and the cell that has it.
struct CellVideo: Decodable, Sendable {
    let id: String
    let status: String
    let cell: String?
    let stages: [Video.Stage]?

    private enum CodingKeys: String, CodingKey {
        case id, status
        case cell = "x_cell"
        case stages = "x_stages"
    }

    var isTerminal: Bool { status == "completed" || status == "failed" }

    func stage(_ name: String) -> Video.Stage? { stages?.first { $0.stage == name } }
}
