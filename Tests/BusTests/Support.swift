import Bus
import CZeroMQ
import Failure
import FoundationEssentials
import Glibc
import Runtime
import Tensor
import Testing
import Wire

/// A loop, a run directory and what lives on them for one test; everything is gone afterwards.
struct Cell {
    let loop: BusLoop
    let runDirectory: RunDirectory

    func ipc(_ name: String) -> Endpoint { .ipc(path: runDirectory.socketPath(name)) }

    static func run(_ body: (Cell) async throws -> Void) async throws {
        let path = "/tmp/zoetrope-bus-tests-\(getpid())-\(UInt32.random(in: 0 ... .max))"
        let cell = Cell(loop: try BusLoop(name: "bus-test"), runDirectory: try RunDirectory(path: path))
        defer { try? FileManager.default.removeItem(atPath: path) }
        do {
            try await body(cell)
        } catch {
            await cell.loop.shutdown()
            throw error
        }
        await cell.loop.shutdown()
    }
}

let anyTCPPort = Endpoint.tcp(host: "127.0.0.1", port: 0)

func pattern(_ count: Int, seed: UInt8 = 1) -> Tensor {
    var tensor = Tensor(uninitialized: [count], dtype: .uint8)
    tensor.withUnsafeMutableBytes { bytes in
        var state = UInt32(seed) &* 2_654_435_761 | 1
        for index in bytes.indices {
            state = state &* 1_664_525 &+ 1_013_904_223
            bytes[index] = UInt8(state >> 24)
        }
    }
    return tensor
}

func bytes(_ tensor: Tensor) -> [UInt8] { tensor.withUnsafeBytes { Array($0) } }

func ref(_ tensor: Tensor, at locations: [Location]) -> TensorRef {
    TensorRef(digest: DataClient.digest(of: tensor), dtype: tensor.dtype, shape: tensor.shape, locations: locations)
}

/// Answers any digest with one tensor: what a store with damaged contents does.
struct LyingSource: BlobSource {
    var tensor: Tensor
    func blob(_ digest: Digest) async -> Tensor? { tensor }
}

/// A peer made of bare ZeroMQ calls: sends what no client of ours would, and answers as no server of ours would.
///
/// `@unchecked Sendable`: each test uses its peer from one task, one call after the other.
final class BarePeer: @unchecked Sendable {
    private let context: UnsafeMutableRawPointer
    private let socket: UnsafeMutableRawPointer
    private var isOpen = true
    private var buffer = [UInt8](repeating: 0, count: 2 << 20)

    init(_ type: Int32, connect: String? = nil, bind: String? = nil) throws {
        context = try #require(zmq_ctx_new())
        socket = try #require(zmq_socket(context, type))
        var none: Int32 = 0
        zmq_setsockopt(socket, ZMQ_LINGER, &none, 4)
        if let connect { try #require(zmq_connect(socket, connect) == 0) }
        if let bind { try #require(zmq_bind(socket, bind) == 0) }
    }

    deinit { close() }

    /// Frees the endpoint; to be called where somebody else binds it next.
    func close() {
        guard isOpen else { return }
        isOpen = false
        zmq_close(socket)
        zmq_ctx_term(context)
    }

    func send(_ frames: [[UInt8]]) {
        for (index, frame) in frames.enumerated() {
            _ = frame.withUnsafeBytes {
                zmq_send(socket, $0.baseAddress, $0.count, index < frames.count - 1 ? ZMQ_SNDMORE : 0)
            }
        }
    }

    /// The frames of the next message; throws when none comes within twenty seconds.
    func receive() async throws -> [[UInt8]] {
        // Looks again and again: waiting inside libzmq would take one of the few threads that run the code under test.
        let deadline = ContinuousClock.now + .seconds(20)
        while true {
            if let frames = try receiveNow() { return frames }
            guard .now < deadline else { throw Failure("nothing_received", "no message within twenty seconds") }
            try await Task.sleep(for: .milliseconds(1))
        }
    }

    private func receiveNow() throws -> [[UInt8]]? {
        var frames: [[UInt8]] = []
        while true {
            let count = zmq_recv(socket, &buffer, buffer.count, ZMQ_DONTWAIT)
            if count < 0, zmq_errno() == EAGAIN, frames.isEmpty { return nil }
            guard count >= 0 else { throw Failure("nothing_received", String(cString: zmq_strerror(zmq_errno()))) }
            frames.append(Array(buffer.prefix(Int(count))))
            var more: Int32 = 0
            var size = 4
            zmq_getsockopt(socket, ZMQ_RCVMORE, &more, &size)
            if more == 0 { return frames }
        }
    }
}

func envelope(_ message: Message, inReplyTo: UInt64 = 0) -> Envelope {
    Envelope(session: .random(), sequence: 1, brokerEpoch: 0, inReplyTo: inReplyTo, message: message)
}

/// The events of a client up to and including the first that `isWanted` accepts.
func next<Value: Sendable>(
    _ iterator: inout AsyncStream<Value>.Iterator, where isWanted: (Value) -> Bool = { _ in true }
) async throws -> Value {
    while let value = await iterator.next() {
        if isWanted(value) { return value }
    }
    throw Failure("ended", "the stream ended before what was waited for")
}

func expectFailure<Value>(_ code: String, _ body: () async throws -> Value) async {
    do {
        let value = try await body()
        Issue.record("expected \(code), got \(value)")
    } catch {
        #expect((error as? Failure)?.code == code, "\(error)")
    }
}
