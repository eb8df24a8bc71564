import CZeroMQ
import Glibc

/// A peer made of bare ZeroMQ calls: sends what no process of ours would.
///
/// `@unchecked Sendable`: a subject uses its peer from one run at a time, one call after the other.
final class RawPeer: @unchecked Sendable {
    private let context: UnsafeMutableRawPointer
    private let socket: UnsafeMutableRawPointer
    private var buffer = [UInt8](repeating: 0, count: 2 << 20)

    init(_ type: Int32, connect: String? = nil, bind: String? = nil) throws {
        guard let context = zmq_ctx_new(), let socket = zmq_socket(context, type) else { throw Finding("no socket") }
        self.context = context
        self.socket = socket
        var none: Int32 = 0
        zmq_setsockopt(socket, ZMQ_LINGER, &none, 4)
        if let connect, zmq_connect(socket, connect) != 0 { throw Finding("cannot connect to \(connect)") }
        if let bind, zmq_bind(socket, bind) != 0 { throw Finding("cannot bind \(bind)") }
    }

    deinit {
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

    /// The next message, or nil when none comes within so many milliseconds.
    func receive(milliseconds: Int) -> [[UInt8]]? {
        var item = zmq_pollitem_t(socket: socket, fd: 0, events: Int16(ZMQ_POLLIN), revents: 0)
        guard zmq_poll(&item, 1, milliseconds) > 0 else { return nil }
        var frames: [[UInt8]] = []
        while true {
            let count = zmq_recv(socket, &buffer, buffer.count, ZMQ_DONTWAIT)
            guard count >= 0 else { return nil }
            frames.append(Array(buffer.prefix(Int(count))))
            var more: Int32 = 0
            var size = 4
            zmq_getsockopt(socket, ZMQ_RCVMORE, &more, &size)
            if more == 0 { return frames }
        }
    }
}

/// Blobs that a script may speak of: empty, tiny, of several chunks' worth of small windows.
enum Contents {
    static let all: [[UInt8]] = [0, 1, 300, 5000].map { count in
        (0..<count).map { UInt8(truncatingIfNeeded: $0 &* 31 &+ count) }
    }
}

/// A folder that goes with the subject.
func scratchFolder(_ name: String) -> String {
    let base = access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp"
    return "\(base)/zt-fuzz-\(name)-\(getpid())"
}
