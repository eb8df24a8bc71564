import CZeroMQ
import Glibc

/// What the loop thread watches: sockets and timers. Not Sendable: only that thread touches it.
final class Reactor {
    private struct Registration {
        /// The ZeroMQ socket, or nil where `descriptor` is watched.
        var handle: UnsafeMutableRawPointer?
        var descriptor: Int32 = 0
        var ready: @Sendable () -> Void
        var close: @Sendable () -> Void
    }

    private struct Timer {
        var identity: UInt64
        var deadline: ContinuousClock.Instant
        var body: @Sendable () -> Void
    }

    private let wakeDescriptor: Int32
    private var registrations: [UInt64: Registration] = [:]
    /// Latest deadline first, so that the next one is taken from the end.
    private var timers: [Timer] = []
    private var nextIdentity: UInt64 = 1
    private var items: [zmq_pollitem_t] = []
    private var itemIdentities: [UInt64] = []
    private var itemsAreStale = true

    init(wakeDescriptor: Int32) { self.wakeDescriptor = wakeDescriptor }

    /// Calls `ready` on the loop thread while the socket has something to read, until `unregister`.
    ///
    /// - Parameter close: what `BusLoop.shutdown` calls; it must unregister and close the socket.
    func register(
        _ socket: Socket, ready: @escaping @Sendable () -> Void, close: @escaping @Sendable () -> Void
    ) -> UInt64 {
        nextIdentity += 1
        registrations[nextIdentity] = Registration(handle: socket.handle, ready: ready, close: close)
        itemsAreStale = true
        return nextIdentity
    }

    /// The same for a descriptor of the system, which has something to read at its end as well.
    func register(
        descriptor: Int32, ready: @escaping @Sendable () -> Void, close: @escaping @Sendable () -> Void
    ) -> UInt64 {
        nextIdentity += 1
        registrations[nextIdentity] = Registration(handle: nil, descriptor: descriptor, ready: ready, close: close)
        itemsAreStale = true
        return nextIdentity
    }

    func unregister(_ identity: UInt64) {
        registrations[identity] = nil
        itemsAreStale = true
    }

    /// Calls `body` once on the loop thread, not before `delay` has passed.
    @discardableResult
    func schedule(after delay: Duration, _ body: @escaping @Sendable () -> Void) -> UInt64 {
        nextIdentity += 1
        let timer = Timer(identity: nextIdentity, deadline: .now + delay, body: body)
        var low = 0
        var high = timers.count
        while low < high {
            let middle = (low + high) / 2
            if timers[middle].deadline > timer.deadline { low = middle + 1 } else { high = middle }
        }
        timers.insert(timer, at: low)
        return nextIdentity
    }

    func cancelTimer(_ identity: UInt64) { timers.removeAll { $0.identity == identity } }

    func closeAll() {
        for (identity, registration) in registrations where registrations[identity] != nil { registration.close() }
    }

    /// Waits until a socket is readable, the wake descriptor is signalled or a timer is due, at most `limit`
    /// milliseconds (−1: for ever), and runs what became ready.
    ///
    /// - Returns: whether the wake descriptor was signalled.
    func poll(limit: Int) -> Bool {
        if itemsAreStale { rebuildItems() }
        let count = zmq_poll(&items, Int32(items.count), timeout(limit))
        let wasWoken = count > 0 && items[0].revents != 0
        if count > 0 {
            // Handlers may register and unregister: the items of this round are fixed, the handlers looked up afresh.
            let ready = zip(items.dropFirst(), itemIdentities).filter { $0.0.revents != 0 }.map(\.1)
            for identity in ready { registrations[identity]?.ready() }
        }
        fireTimers()
        return wasWoken
    }

    private func rebuildItems() {
        items = [zmq_pollitem_t(socket: nil, fd: wakeDescriptor, events: Int16(ZMQ_POLLIN), revents: 0)]
        itemIdentities = registrations.keys.sorted()
        for identity in itemIdentities {
            guard let registration = registrations[identity] else { continue }
            items.append(
                zmq_pollitem_t(
                    socket: registration.handle, fd: registration.descriptor, events: Int16(ZMQ_POLLIN), revents: 0))
        }
        itemsAreStale = false
    }

    private func timeout(_ limit: Int) -> Int {
        guard let next = timers.last else { return limit }
        let (seconds, attoseconds) = (next.deadline - .now).components
        // Rounded up: waking a moment early would spin until the deadline.
        let milliseconds = max(0, Int(min(seconds, 86_400)) * 1000 + Int(attoseconds / 1_000_000_000_000_000) + 1)
        return limit < 0 ? milliseconds : min(limit, milliseconds)
    }

    private func fireTimers() {
        let now = ContinuousClock.now
        while let next = timers.last, next.deadline <= now {
            timers.removeLast()
            next.body()
        }
    }
}
