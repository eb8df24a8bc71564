import CZeroMQ
import Failure
import Foundation

/// What libzmq itself moves: a DEALER that sends frames of at most 1 MiB without copying them, and a ROUTER that takes them
/// and looks at nothing.
final class BareParent {
    private let context: UnsafeMutableRawPointer
    private let socket: UnsafeMutableRawPointer
    private let child: Child
    private var peer: [UInt8] = []

    /// - Parameter way: `tcp`, `ipc` or `curve`.
    init(_ way: String, directory: String) throws {
        guard let context = zmq_ctx_new(), let socket = zmq_socket(context, ZMQ_ROUTER) else {
            throw Failure("bench_zmq", "no socket")
        }
        self.context = context
        self.socket = socket
        BareChild.prepare(socket)
        var server = ""
        if way == "curve" {
            var publicText = [CChar](repeating: 0, count: 41)
            var secretText = publicText
            guard zmq_curve_keypair(&publicText, &secretText) == 0 else { throw Failure("bench_zmq", "no CURVE") }
            var isServer: Int32 = 1
            zmq_setsockopt(socket, ZMQ_CURVE_SERVER, &isServer, 4)
            zmq_setsockopt(socket, ZMQ_CURVE_SECRETKEY, secretText, 41)
            server = " " + String(decoding: publicText.dropLast().map { UInt8(bitPattern: $0) }, as: UTF8.self)
        }
        let wanted = way == "ipc" ? "ipc://\(directory)/bare.sock" : "tcp://127.0.0.1:*"
        guard zmq_bind(socket, wanted) == 0 else { throw Failure("bench_zmq", "cannot bind \(wanted)") }
        var text = [CChar](repeating: 0, count: 256)
        var length = text.count
        zmq_getsockopt(socket, ZMQ_LAST_ENDPOINT, &text, &length)
        let endpoint = String(decoding: text.prefix(length - 1).map { UInt8(bitPattern: $0) }, as: UTF8.self)
        child = try Child(["--answer", endpoint + server])
        var identity = [UInt8](repeating: 0, count: 64)
        let count = zmq_recv(socket, &identity, identity.count, 0)
        guard count > 0, zmq_recv(socket, nil, 0, 0) >= 0 else { throw Failure("bench_zmq", "nobody came") }
        peer = Array(identity.prefix(Int(count)))
    }

    deinit {
        zmq_close(socket)
        zmq_ctx_term(context)
    }

    var processorSeconds: Double { child.processorSeconds }

    /// Asks for `bytes` and takes them.
    func move(_ bytes: Int) throws {
        let order = [UInt8]("\(bytes)".utf8)
        zmq_send(socket, peer, peer.count, ZMQ_SNDMORE)
        zmq_send(socket, order, order.count, 0)
        var message = zmq_msg_t()
        zmq_msg_init(&message)
        defer { zmq_msg_close(&message) }
        var left = bytes
        while left > 0 {
            guard zmq_msg_recv(&message, socket, 0) >= 0, zmq_msg_recv(&message, socket, 0) >= 0 else {
                throw Failure("bench_zmq", "nothing came")
            }
            left -= zmq_msg_size(&message)
        }
    }
}

enum BareChild {
    private static let frame = 1 << 20

    static func prepare(_ socket: UnsafeMutableRawPointer) {
        var (none, patience): (Int32, Int32) = (0, 60_000)
        zmq_setsockopt(socket, ZMQ_LINGER, &none, 4)
        zmq_setsockopt(socket, ZMQ_SNDHWM, &none, 4)
        zmq_setsockopt(socket, ZMQ_RCVHWM, &none, 4)
        zmq_setsockopt(socket, ZMQ_RCVTIMEO, &patience, 4)
    }

    /// - Parameter order: `ENDPOINT [SERVER KEY]`
    static func run(_ order: String) throws {
        let words = order.split(separator: " ").map(String.init)
        guard let context = zmq_ctx_new(), let socket = zmq_socket(context, ZMQ_DEALER), let endpoint = words.first
        else { throw Failure("bench_zmq", "no socket") }
        prepare(socket)
        if words.count > 1 {
            var publicText = [CChar](repeating: 0, count: 41)
            var secretText = publicText
            zmq_curve_keypair(&publicText, &secretText)
            zmq_setsockopt(socket, ZMQ_CURVE_SERVERKEY, words[1], 41)
            zmq_setsockopt(socket, ZMQ_CURVE_PUBLICKEY, publicText, 41)
            zmq_setsockopt(socket, ZMQ_CURVE_SECRETKEY, secretText, 41)
        }
        guard zmq_connect(socket, endpoint) == 0, zmq_send(socket, nil, 0, 0) >= 0 else {
            throw Failure("bench_zmq", "cannot connect")
        }
        let source = UnsafeMutableRawPointer.allocate(byteCount: frame, alignment: 64)
        source.initializeMemory(as: UInt8.self, repeating: 7, count: frame)
        var text = [UInt8](repeating: 0, count: 32)
        while true {
            let count = zmq_recv(socket, &text, text.count, 0)
            guard count > 0, var left = Int(String(decoding: text.prefix(Int(count)), as: UTF8.self)) else { exit(0) }
            while left > 0 {
                var message = zmq_msg_t()
                zmq_msg_init_data(&message, source, min(left, frame), { _, _ in }, nil)
                guard zmq_msg_send(&message, socket, 0) >= 0 else { exit(1) }
                left -= frame
            }
        }
    }
}
