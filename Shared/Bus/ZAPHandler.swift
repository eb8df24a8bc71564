import CZeroMQ
import Failure
import Wire

/// Answers libzmq's question whether the peer with this key may come in (ZAP, RFC 27), on the bus thread and from
/// memory. The answer's User-Id is the key, which libzmq attaches to every message of the peer.
actor ZAPHandler {
    /// Of sockets behind CURVE.
    static let keyedDomain = "zoetrope"
    /// Of ipc sockets, where the kernel has checked the user already.
    static let localDomain = "zoetrope-local"
    private static let endpoint = "inproc://zeromq.zap.01"
    /// Version, request id, domain, address, routing id, mechanism, credentials.
    private static let partCount = 7
    private static let batch = 64

    private nonisolated let loop: BusLoop
    nonisolated var unownedExecutor: UnownedSerialExecutor { loop.asUnownedSerialExecutor() }
    private let socket: Socket
    private weak var security: BusSecurity?
    private var registration: UInt64?
    private var isClosed = false
    private var buffer = [UInt8](repeating: 0, count: 512)

    /// Binds at once: a socket that requires the handler may be bound right after.
    init(loop: BusLoop) throws(Failure) {
        self.loop = loop
        socket = try Socket(loop.context, ZMQ_REP)
        _ = try socket.bind(ZAPHandler.endpoint)
    }

    nonisolated func begin(answering security: BusSecurity) {
        loop.post { self.assumeIsolated { $0.register(security) } }
    }

    private func register(_ security: BusSecurity) {
        self.security = security
        guard !isClosed else { return }
        registration = loop.reactor.register(
            socket, ready: { self.assumeIsolated { $0.drain() } }, close: { self.assumeIsolated { $0.close() } })
    }

    private func close() {
        isClosed = true
        if let registration { loop.reactor.unregister(registration) }
        registration = nil
        socket.close()
    }

    private func drain() {
        for _ in 0..<ZAPHandler.batch {
            guard !isClosed, let request = receive() else { return }
            answer(request)
        }
    }

    /// The parts of the next request; too long ones come back empty, which no rule accepts.
    private func receive() -> [[UInt8]]? {
        var parts: [[UInt8]] = []
        while true {
            let count = zmq_recv(socket.handle, &buffer, buffer.count, ZMQ_DONTWAIT)
            if count < 0, zmq_errno() == EINTR { continue }
            guard count >= 0 else { return nil }
            parts.append(Int(count) <= buffer.count ? Array(buffer[..<Int(count)]) : [])
            var more: Int32 = 0
            var size = MemoryLayout<Int32>.size
            zmq_getsockopt(socket.handle, ZMQ_RCVMORE, &more, &size)
            if more == 0 { return parts }
        }
    }

    private func answer(_ request: [[UInt8]]) {
        let isCurve = request.count == ZAPHandler.partCount && request[5] == Array("CURVE".utf8)
        let key = isCurve ? PublicKey(bytes: request[6]) : nil
        let address = request.count > 3 ? String(decoding: request[3], as: UTF8.self) : ""
        let isLocal =
            request.count > 5 && request[5] == Array("NULL".utf8)
            && request[2] == Array(ZAPHandler.localDomain.utf8)
        let isAdmitted = isLocal || (security?.decide(key, address: address) ?? false)
        let user = isAdmitted ? key.map { Array($0.description.utf8) } ?? [] : []
        let parts: [[UInt8]] = [
            Array("1.0".utf8), request.count > 1 ? request[1] : [], Array((isAdmitted ? "200" : "400").utf8),
            Array((isAdmitted ? "OK" : "not authorised").utf8), user, [],
        ]
        for (index, part) in parts.enumerated() {
            let flags = ZMQ_DONTWAIT | (index < parts.count - 1 ? ZMQ_SNDMORE : 0)
            _ = part.withUnsafeBytes { zmq_send(socket.handle, $0.baseAddress, $0.count, flags) }
        }
    }
}
