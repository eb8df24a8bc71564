import CZeroMQ
import Failure
import Glibc

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
    /// Socket files of ours, which libzmq leaves lying about.
    private var files: [String] = []
    private var isOpen = true

    init(_ context: ZMQContext, _ type: Int32) throws(Failure) {
        handle = try context.makeSocket(type)
        self.context = context
        // One slot more than is kept takes the parts that nobody wants.
        slots = .allocate(capacity: Socket.keptParts + 1)
        for index in 0...Socket.keptParts { zmq_msg_init(slots.advanced(by: index)) }
        set(ZMQ_LINGER, 0)
    }

    deinit {
        close()
        for index in 0...Socket.keptParts { zmq_msg_close(slots.advanced(by: index)) }
        slots.deallocate()
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
        for (index, frame) in frames.enumerated() {
            let flags = ZMQ_DONTWAIT | (index < frames.count - 1 ? ZMQ_SNDMORE : 0)
            var code = queue(frame, flags)
            if code == EAGAIN, index == 0 {
                processCommands()
                code = queue(frame, flags)
            }
            switch code {
            case 0: continue
            case EAGAIN: return .full
            default: return .unreachable
            }
        }
        return .sent
    }

    /// 0, or the errno.
    private func queue(_ frame: Frame, _ flags: Int32) -> Int32 {
        var message = zmq_msg_t()
        switch frame {
        case .bytes(let bytes):
            guard zmq_msg_init_size(&message, bytes.count) == 0 else { return zmq_errno() }
            bytes.withUnsafeBytes { source in
                if let start = source.baseAddress {
                    zmq_msg_data(&message).copyMemory(from: start, byteCount: source.count)
                }
            }
        case .pinned(let tensor, let offset, let length):
            let hint = Unmanaged.passRetained(tensor).toOpaque()
            let start = UnsafeMutableRawPointer(mutating: tensor.slice(offset, length).baseAddress)
            // Runs on libzmq's I/O thread: it may only let go of the tensor.
            let release: @convention(c) (UnsafeMutableRawPointer?, UnsafeMutableRawPointer?) -> Void = { _, hint in
                if let hint { Unmanaged<PinnedTensor>.fromOpaque(hint).release() }
            }
            guard zmq_msg_init_data(&message, start, length, release, hint) == 0 else {
                let code = zmq_errno()
                Unmanaged<PinnedTensor>.fromOpaque(hint).release()
                return code
            }
        }
        var result = zmq_msg_send(&message, handle, flags)
        while result < 0, zmq_errno() == EINTR { result = zmq_msg_send(&message, handle, flags) }
        if result >= 0 { return 0 }
        let code = zmq_errno()
        zmq_msg_close(&message)
        return code
    }
}
