import CZeroMQ
import Failure
import Glibc
import Wire

/// What became of a message handed to a socket. `sent` means queued: delivery is never implied.
enum SendOutcome {
    case sent
    /// The peer's queue is at its high-water mark.
    case full
    /// No such peer, or no connection.
    case unreachable
}

/// One part of a message to be sent.
enum Frame {
    case bytes([UInt8])
    /// `length` bytes from `offset` on, not copied: the storage is immutable while anybody holds it.
    case pinned(PinnedTensor, offset: Int, length: Int)
}

/// The parts of a received message; buffers are valid inside the callback only and are aligned to nothing.
struct ReceivedParts {
    /// Number of parts, those beyond the kept three included.
    let count: Int
    private let slots: UnsafeMutablePointer<zmq_msg_t>

    /// The key of the peer that sent the message; nil where its connection is not behind CURVE.
    ///
    /// libzmq 4.3.4 leaves the User-Id off the routing-id frame, hence the part that follows it.
    var userKey: PublicKey? {
        guard count > 1, let text = zmq_msg_gets(slots.advanced(by: 1), "User-Id") else { return nil }
        return PublicKey(text: String(cString: text))
    }

    /// Whether the peer came over a Unix socket: libzmq then gives `localhost` with its user, group and process, such as
    /// `localhost:1000:1000:4711`, where a TCP peer has a numeric address and nothing else.
    var isFromSocketFile: Bool {
        guard count > 1, let text = zmq_msg_gets(slots.advanced(by: 1), "Peer-Address") else { return false }
        return String(cString: text).hasPrefix("localhost:")
    }

    fileprivate init(count: Int, slots: UnsafeMutablePointer<zmq_msg_t>) {
        self.count = count
        self.slots = slots
    }

    subscript(index: Int) -> UnsafeRawBufferPointer {
        precondition(index < min(count, Socket.keptParts), "part \(index) of \(count)")
        let slot = slots.advanced(by: index)
        return UnsafeRawBufferPointer(start: zmq_msg_data(slot), count: zmq_msg_size(slot))
    }
}

/// A ZeroMQ socket. Not Sendable: it lives inside an actor of a `BusLoop` and is used on its thread only.
final class Socket {
    /// Routing id, control frame, payload: a message of CVB/1 has no more.
    static let keptParts = 3

    let handle: UnsafeMutableRawPointer
    private let context: ZMQContext
    private let slots: UnsafeMutablePointer<zmq_msg_t>
    /// The parts of the message that is being sent.
    private let outgoing: UnsafeMutablePointer<zmq_msg_t>
    /// Socket files of ours, which libzmq leaves lying about.
    private var files: [String] = []
    private var isOpen = true

    init(_ context: ZMQContext, _ type: Int32) throws(Failure) {
        handle = try context.makeSocket(type)
        self.context = context
        // One slot more than is kept takes the parts that nobody wants.
        slots = .allocate(capacity: Socket.keptParts + 1)
        outgoing = .allocate(capacity: Socket.keptParts)
        for index in 0...Socket.keptParts { zmq_msg_init(slots.advanced(by: index)) }
        set(ZMQ_LINGER, 0)
    }

    deinit {
        close()
        for index in 0...Socket.keptParts { zmq_msg_close(slots.advanced(by: index)) }
        slots.deallocate()
        outgoing.deallocate()
    }

    func close() {
        guard isOpen else { return }
        isOpen = false
        // First the files: once the socket is closed, another process may have bound the same paths.
        for file in files { unlink(file) }
        zmq_close(handle)
        context.socketClosed()
    }

    /// Sets an integer option known to be valid for the socket's type.
    func set(_ option: Int32, _ value: Int32) {
        var value = value
        let result = zmq_setsockopt(handle, option, &value, MemoryLayout<Int32>.size)
        precondition(result == 0, "ZeroMQ option \(option) = \(value): \(lastZMQError())")
    }

    func setMaximumMessageSize(_ bytes: Int) {
        var value = Int64(bytes)
        let result = zmq_setsockopt(handle, ZMQ_MAXMSGSIZE, &value, MemoryLayout<Int64>.size)
        precondition(result == 0, "ZMQ_MAXMSGSIZE \(bytes): \(lastZMQError())")
    }

    func connect(_ endpoint: String) throws(Failure) {
        guard zmq_connect(handle, endpoint) == 0 else {
            throw Failure("endpoint_unusable", "cannot connect to \(endpoint): \(lastZMQError())", field: "endpoint")
        }
    }

    /// Binds and returns the endpoint as libzmq sees it (the port that 0 stood for).
    func bind(_ endpoint: String) throws(Failure) -> String {
        guard zmq_bind(handle, endpoint) == 0 else {
            let code = zmq_errno() == EADDRINUSE ? "endpoint_in_use" : "endpoint_unusable"
            throw Failure(
                code, "cannot bind \(endpoint): \(lastZMQError())", field: "endpoint",
                remedy: "Stop whoever holds it, or choose another endpoint.")
        }
        var text = [CChar](repeating: 0, count: 512)
        var length = text.count
        guard zmq_getsockopt(handle, ZMQ_LAST_ENDPOINT, &text, &length) == 0 else { return endpoint }
        return String(decoding: text.prefix(max(length - 1, 0)).map { UInt8(bitPattern: $0) }, as: UTF8.self)
    }

    /// The socket file is removed when the socket is closed.
    func own(file: String) { files.append(file) }

    /// Makes the socket read its mailbox now; libzmq otherwise does so at most once a millisecond.
    private func processCommands() {
        var events: Int32 = 0
        var size = MemoryLayout<Int32>.size
        zmq_getsockopt(handle, ZMQ_EVENTS, &events, &size)
    }

    /// Takes one message if there is one; false when there is none. Surplus parts are received and thrown away.
    func receive(_ body: (ReceivedParts) -> Void) -> Bool {
        var count = 0
        while true {
            let slot = slots.advanced(by: min(count, Socket.keptParts))
            var result = zmq_msg_recv(slot, handle, ZMQ_DONTWAIT)
            while result < 0, zmq_errno() == EINTR { result = zmq_msg_recv(slot, handle, ZMQ_DONTWAIT) }
            guard result >= 0 else { break }
            count += 1
            if zmq_msg_more(slot) == 0 { break }
        }
        guard count > 0 else { return false }
        body(ReceivedParts(count: count, slots: slots))
        // Payloads go back to libzmq at once, not when the next message overwrites them.
        for index in 0..<min(count, Socket.keptParts + 1) {
            zmq_msg_close(slots.advanced(by: index))
            zmq_msg_init(slots.advanced(by: index))
        }
        return true
    }

    /// Queues a message without ever waiting.
    func send(_ frames: [Frame]) -> SendOutcome {
        precondition(frames.count <= Socket.keptParts, "a message of \(frames.count) parts")
        // All parts are made before the first is handed over: libzmq would take what is sent next, to whomever, for the
        // rest of a message that was begun.
        var made = 0
        defer { for index in 0..<made { zmq_msg_close(outgoing.advanced(by: index)) } }
        for frame in frames {
            guard Socket.make(frame, outgoing.advanced(by: made)) else { return .unreachable }
            made += 1
        }
        for index in frames.indices {
            let flags = ZMQ_DONTWAIT | (index < frames.count - 1 ? ZMQ_SNDMORE : 0)
            var code = hand(outgoing.advanced(by: index), flags)
            if code == EAGAIN, index == 0 {
                processCommands()
                code = hand(outgoing.advanced(by: index), flags)
            }
            switch code {
            case 0: continue
            case EAGAIN: return .full
            default: return .unreachable
            }
        }
        return .sent
    }

    /// False when there is no memory for the message.
    private static func make(_ frame: Frame, _ message: UnsafeMutablePointer<zmq_msg_t>) -> Bool {
        switch frame {
        case .bytes(let bytes):
            guard zmq_msg_init_size(message, bytes.count) == 0 else { return false }
            bytes.withUnsafeBytes { source in
                if let start = source.baseAddress {
                    zmq_msg_data(message).copyMemory(from: start, byteCount: source.count)
                }
            }
        case .pinned(let tensor, let offset, let length):
            let hint = Unmanaged.passRetained(tensor).toOpaque()
            let start = UnsafeMutableRawPointer(mutating: tensor.slice(offset, length).baseAddress)
            // Runs on libzmq's I/O thread: it may only let go of the tensor.
            let release: @convention(c) (UnsafeMutableRawPointer?, UnsafeMutableRawPointer?) -> Void = { _, hint in
                if let hint { Unmanaged<PinnedTensor>.fromOpaque(hint).release() }
            }
            guard zmq_msg_init_data(message, start, length, release, hint) == 0 else {
                Unmanaged<PinnedTensor>.fromOpaque(hint).release()
                return false
            }
        }
        return true
    }

    /// 0, or the errno; the message is empty after 0 and as it was otherwise.
    private func hand(_ message: UnsafeMutablePointer<zmq_msg_t>, _ flags: Int32) -> Int32 {
        while zmq_msg_send(message, handle, flags) < 0 {
            if zmq_errno() != EINTR { return zmq_errno() }
        }
        return 0
    }
}
