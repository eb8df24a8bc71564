import CZeroMQ
import Wire

/// The socket options of the two planes (bus.md §4, §8).
enum SocketProfile {
    private static func common(_ socket: Socket) {
        socket.set(ZMQ_LINGER, 0)
        socket.set(ZMQ_IPV6, 1)
        socket.set(ZMQ_RECONNECT_IVL, 100)
        socket.set(ZMQ_RECONNECT_IVL_MAX, 2000)
        socket.set(ZMQ_HANDSHAKE_IVL, 3000)
    }

    /// Small messages that must not wait behind anything: a dead connection is seen within ten seconds.
    static func control(_ socket: Socket) {
        common(socket)
        socket.setMaximumMessageSize(Limits.controlFrameBytes)
        socket.set(ZMQ_SNDHWM, 1000)
        socket.set(ZMQ_RCVHWM, 1000)
        socket.set(ZMQ_HEARTBEAT_IVL, 2000)
        socket.set(ZMQ_HEARTBEAT_TIMEOUT, 10_000)
        socket.set(ZMQ_HEARTBEAT_TTL, 10_000)
    }

    /// Chunks of 1 MiB: credit bounds what is under way, so the high-water marks are never reached; a slow link may
    /// take a while for one chunk, hence the long timeout.
    static func data(_ socket: Socket) {
        common(socket)
        socket.setMaximumMessageSize(Limits.chunkBytes + 4096)
        socket.set(ZMQ_SNDHWM, 4096)
        socket.set(ZMQ_RCVHWM, 4096)
        socket.set(ZMQ_HEARTBEAT_IVL, 5000)
        socket.set(ZMQ_HEARTBEAT_TIMEOUT, 30_000)
        socket.set(ZMQ_HEARTBEAT_TTL, 30_000)
    }
}
