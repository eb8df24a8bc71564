import Checkpoint
import DemoModel
import Failure
import FoundationEssentials
import GatewayService
import Hummingbird
import HummingbirdTesting
import Logging
import NIOCore
import Request
import Runtime
import Tensor
import Testing
import Wire

/// A gateway over a broker in memory, and what tests send and read.
struct GatewayFixture {
    let service: FakeJobService
    let traits: ModelTraits
    let gateway: Gateway

    static let modelDigest = String(repeating: "d", count: 64)

    /// - Parameters:
    ///   - conditioning: what the model wants its videos to begin with.
    ///   - hasColors: whether the model says which colours its latents have.
    init(
        service: FakeJobService = FakeJobService(), administration: AdminGate = .open,
        keepAlive: Duration = .seconds(15), conditioning: Conditioning = .text, adapters: AdapterLibrary? = nil,
        hasColors: Bool = true
    ) throws {
        self.service = service
        var traits = try ModelTraits(folder: ModelFolder(path: DemoModel.path()), digest: Self.modelDigest)
        traits.conditioning = conditioning
        if !hasColors { traits.latentColors = nil }
        self.traits = traits
        gateway = Gateway(
            service: service, traits: traits, administration: administration, keepAlive: keepAlive,
            adapters: adapters)
    }

    /// Sends requests to the routes themselves, with no socket between.
    func test(_ body: @Sendable @escaping (any TestClientProtocol) async throws -> Void) async throws {
        try await Application(router: gateway.router(), logger: Self.silent).test(.router, body)
    }

    /// Sends requests over a real connection.
    func testLive(_ body: @Sendable @escaping (any TestClientProtocol) async throws -> Void) async throws {
        let address = try ListenAddress(parsing: "127.0.0.1:0")
        try await gateway.application(listen: address, logger: Self.silent).test(.live, body)
    }

    static let silent = Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }

    static func worker(_ stage: String, model: String) -> ClusterStatus.Worker {
        ClusterStatus.Worker(
            worker: "\(stage)-1", capabilities: [Capability(stage: stage, model: model)], slots: 1, busy: 0,
            millisecondsSinceBeat: 10)
    }

    /// One worker of every stage that a video needs.
    static var completeCluster: [ClusterStatus.Worker] {
        [
            worker("text-encoder", model: modelDigest), worker("denoiser", model: modelDigest),
            worker("vae-decoder", model: modelDigest), worker("video-muxer", model: ""),
        ]
    }

    static func digest(_ byte: UInt8) throws -> Digest {
        try #require(Digest(bytes: Array(repeating: byte, count: 32)))
    }

    /// Marks the job done with a video of `bytes` in the store.
    func finish(_ job: String, video bytes: [UInt8]) async throws {
        let digest = try Self.digest(9)
        await service.store(bytes, as: digest)
        let ref = TensorRef(digest: digest, dtype: .uint8, shape: [bytes.count], locations: [])
        await service.update(job) { status in
            status.state = .done
            status.finishedUnixMilliseconds = 1_700_000_042_000
            status.outputs = ["mux.video", "mux.thumbnail", "mux.contact_sheet"].map { NamedRef(name: $0, ref: ref) }
            for index in status.tasks.indices { status.tasks[index].state = .done }
        }
    }
}

extension TestClientProtocol {
    /// Posts JSON to `/v1/videos`.
    func create(_ json: String, headers: HTTPFields = [:]) async throws -> TestResponse {
        var fields = headers
        fields[.contentType] = "application/json"
        return try await execute(uri: "/v1/videos", method: .post, headers: fields, body: ByteBuffer(string: json)) {
            $0
        }
    }

    func post(_ uri: String, _ json: String) async throws -> TestResponse {
        try await execute(
            uri: uri, method: .post, headers: [.contentType: "application/json"], body: ByteBuffer(string: json)
        ) { $0 }
    }

    func get(_ uri: String, headers: HTTPFields = [:]) async throws -> TestResponse {
        try await execute(uri: uri, method: .get, headers: headers, body: nil) { $0 }
    }

    func delete(_ uri: String) async throws -> TestResponse {
        try await execute(uri: uri, method: .delete, headers: [:], body: nil) { $0 }
    }
}

/// The fields of a Video object that tests look at.
struct ReadVideo: Decodable {
    struct JobError: Decodable {
        var code: String
        var message: String
    }

    struct Stage: Decodable {
        var stage: String
        var state: String
        var step: Int
        var total: Int
        var elapsed_ms: Int
        var remaining_ms: Int
        var worker: String
        var notes: [String]
    }

    var id: String
    var object: String
    var model: String
    var status: String
    var progress: Int
    var created_at: Int
    var completed_at: Int?
    var seconds: String
    var size: String
    var prompt: String?
    var seed: UInt64?
    var error: JobError?
    var x_stage: String?
    var x_stages: [Stage]
    var x_eta_ms: Int?
    var x_queue_position: Int
    var x_request: GenerationRequest?
}

/// An error answer in OpenAI's form.
struct ReadError: Decodable {
    struct Detail: Decodable {
        var message: String
        var type: String
        var param: String?
        var code: String
    }

    var error: Detail
}

extension TestResponse {
    var text: String { String(buffer: body) }

    func decoded<Value: Decodable>(_ type: Value.Type) throws -> Value {
        try JSONDecoder().decode(type, from: Data(text.utf8))
    }

    func video() throws -> ReadVideo { try decoded(ReadVideo.self) }

    /// The stable code of an error answer.
    func code() throws -> String { try decoded(ReadError.self).error.code }

    func header(_ name: String) -> String? { HTTPFields.Element.Name(name).flatMap { headers[$0] } }
}
