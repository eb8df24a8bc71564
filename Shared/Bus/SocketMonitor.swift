import CZeroMQ
import Failure
import Synchronization

/// Tells when a DEALER's connection is up (after the handshake) or gone. A hint, never state: messages decide.
final class SocketMonitor {
    enum Event {
        case connected
        case disconnected
        /// The server does not know our key; libzmq will not try again by itself.
        case refused
        /// A handshake broke off: another mechanism, another server key, or the connection was lost.
        case failed
    }

    /// Events of a connecting socket.
    static let connections =
        ZMQ_EVENT_HANDSHAKE_SUCCEEDED | ZMQ_EVENT_DISCONNECTED | ZMQ_EVENT_HANDSHAKE_FAILED_AUTH
        | ZMQ_EVENT_HANDSHAKE_FAILED_PROTOCOL | ZMQ_EVENT_HANDSHAKE_FAILED_NO_DETAIL

    /// Handshakes at a serving socket that broke off without a key that could be looked up.
    static let brokenHandshakes = ZMQ_EVENT_HANDSHAKE_FAILED_PROTOCOL | ZMQ_EVENT_HANDSHAKE_FAILED_NO_DETAIL

    private let monitored: Socket
    private let pair: Socket
    private var isOpen = true

    private static let nextName = Atomic<UInt64>(0)

    /// - Parameter events: `connections` or `brokenHandshakes`.
    init(_ socket: Socket, _ context: ZMQContext, _ events: Int32 = SocketMonitor.connections) throws(Failure) {
        let name = SocketMonitor.nextName.wrappingAdd(1, ordering: .relaxed).newValue
        let endpoint = "inproc://monitor-\(name)"
        guard zmq_socket_monitor(socket.handle, endpoint, events) == 0 else {
            throw Failure("bus_unavailable", "cannot watch a connection: \(lastZMQError())")
        }
        monitored = socket
        pair = try Socket(context, ZMQ_PAIR)
        // libzmq's own thread tells of events, and must never wait for ours.
        pair.set(ZMQ_RCVHWM, 0)
        try pair.connect(endpoint)
    }

    func register(
        _ reactor: Reactor, ready: @escaping @Sendable () -> Void, close: @escaping @Sendable () -> Void
    ) -> UInt64 {
        reactor.register(pair, ready: ready, close: close)
    }

    /// The next event, nil when there is none for now.
    func next() -> Event? {
        while true {
            var found: Event?
            let hadMessage = pair.receive { parts in
                guard parts.count >= 1, parts[0].count >= 2 else { return }
                let event = Int32(parts[0].loadUnaligned(as: UInt16.self))
                switch event {
                case ZMQ_EVENT_HANDSHAKE_SUCCEEDED: found = .connected
                case ZMQ_EVENT_DISCONNECTED: found = .disconnected
                case ZMQ_EVENT_HANDSHAKE_FAILED_AUTH: found = .refused
                case ZMQ_EVENT_HANDSHAKE_FAILED_PROTOCOL, ZMQ_EVENT_HANDSHAKE_FAILED_NO_DETAIL: found = .failed
                default: break
                }
            }
            if let found { return found }
            if !hadMessage { return nil }
        }
    }

    /// How many events there were since the last call.
    func drain() -> UInt64 {
        var count: UInt64 = 0
        while next() != nil { count += 1 }
        return count
    }

    /// Must precede the monitored socket's own end.
    func close() {
        guard isOpen else { return }
        isOpen = false
        zmq_socket_monitor(monitored.handle, nil, 0)
        pair.close()
    }
}
