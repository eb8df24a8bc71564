import CZeroMQ
import Failure
import Synchronization

/// The one ZeroMQ context of a loop: counts its sockets, because terminating it waits for the last one.
final class ZMQContext: Sendable {
    private struct State {
        var openSockets = 0
        var isClosing = false
        var isTerminated = false
    }

    // A context is thread-safe by libzmq's contract; the pointer never changes.
    private nonisolated(unsafe) let handle: UnsafeMutableRawPointer
    private let state = Mutex(State())

    init() throws(Failure) {
        guard let handle = zmq_ctx_new() else {
            throw Failure("bus_unavailable", "cannot make a ZeroMQ context: \(lastZMQError())")
        }
        self.handle = handle
        zmq_ctx_set(handle, ZMQ_BLOCKY, 0)
        zmq_ctx_set(handle, ZMQ_IPV6, 1)
    }

    // Every socket holds the context, so none is left.
    deinit {
        beginClosing()
        _ = terminateIfIdle()
    }

    /// A new socket of `type`; the caller reports its end with `socketClosed`.
    func makeSocket(_ type: Int32) throws(Failure) -> UnsafeMutableRawPointer {
        let socket = state.withLock { state -> UnsafeMutableRawPointer? in
            guard !state.isClosing, let socket = zmq_socket(handle, type) else { return nil }
            state.openSockets += 1
            return socket
        }
        guard let socket else {
            throw Failure("bus_closed", "no new socket: the loop is shutting down or out of descriptors")
        }
        return socket
    }

    func socketClosed() { state.withLock { $0.openSockets -= 1 } }

    /// From now on no socket can be made.
    func beginClosing() { state.withLock { $0.isClosing = true } }

    /// Ends the context once every socket is closed; true when it has ended.
    func terminateIfIdle() -> Bool {
        let mayTerminate = state.withLock { state -> Bool? in
            if state.isTerminated { return nil }
            guard state.isClosing, state.openSockets == 0 else { return false }
            state.isTerminated = true
            return true
        }
        guard let mayTerminate else { return true }
        if mayTerminate { zmq_ctx_term(handle) }
        return mayTerminate
    }
}

/// The text of the calling thread's last ZeroMQ error.
func lastZMQError() -> String { String(cString: zmq_strerror(zmq_errno())) }
