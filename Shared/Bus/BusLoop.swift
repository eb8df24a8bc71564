import CPlatform
package import Failure
import Glibc
import Synchronization

/// The bus thread of a process: one pthread that waits for sockets and timers and runs the actors that own them.
///
/// `ControlServer`, `ControlClient`, `DataServer` and `DataClient` are actors whose executor is this loop, so their
/// sockets are used on one thread without a lock. Nothing that computes may run here: beats would stop.
/// A process has one loop; `shutdown` closes every socket and frees ZeroMQ, and the actors then answer `bus_closed`.
package final class BusLoop: SerialExecutor {
    let core: LoopCore

    /// Starts the thread under `name` (at most 15 bytes are shown by `ps -L`).
    ///
    /// - Throws: `bus_unavailable` when the process is out of descriptors or threads.
    package init(name: String) throws(Failure) {
        core = try LoopCore()
        try core.start(name: name, executor: UnownedSerialExecutor(ordinary: self))
    }

    deinit { core.stop() }

    package func enqueue(_ job: consuming ExecutorJob) { core.push(.job(UnownedJob(job))) }

    package func checkIsolated() { precondition(core.isOnLoop, "not on the bus thread") }

    package func isIsolatingCurrentContext() -> Bool? { core.isOnLoop }

    /// Closes every socket of every actor on the loop, ends their streams and terminates ZeroMQ.
    package func shutdown() async {
        await withCheckedContinuation { continuation in
            core.post { [core] in core.beginClosing { continuation.resume() } }
        }
    }

    /// Sockets and timers; only for code that runs on the loop thread.
    var reactor: Reactor {
        precondition(core.isOnLoop, "the reactor belongs to the bus thread")
        return core.reactor
    }

    var context: ZMQContext { core.context }

    /// Runs `body` on the loop thread, after everything enqueued before it.
    func post(_ body: @escaping @Sendable () -> Void) { core.post(body) }
}

/// The part of a loop that its thread keeps alive.
final class LoopCore: Sendable {
    enum Item: Sendable {
        case job(UnownedJob)
        case closure(@Sendable () -> Void)
    }

    private struct Queue {
        var items: [Item] = []
        var isStopped = false
        /// Whether the loop thread waits, or is about to, and must be woken for what comes.
        var isAsleep = false
    }

    private struct Closing {
        var hasBegun = false
        var hasEnded = false
        var waiters: [@Sendable () -> Void] = []
    }

    let context: ZMQContext
    private let wakeDescriptor: Int32
    private let queue = Mutex(Queue())
    private let thread = Atomic<UInt>(0)
    // Touched by the loop thread only; `BusLoop.reactor` checks that.
    nonisolated(unsafe) let reactor: Reactor
    private nonisolated(unsafe) var closing = Closing()

    init() throws(Failure) {
        context = try ZMQContext()
        wakeDescriptor = cs_eventfd_create()
        guard wakeDescriptor >= 0 else {
            throw Failure("bus_unavailable", "cannot make an eventfd: \(String(cString: strerror(errno)))")
        }
        reactor = Reactor(wakeDescriptor: wakeDescriptor)
    }

    deinit { Glibc.close(wakeDescriptor) }

    var isOnLoop: Bool { thread.load(ordering: .acquiring) == UInt(pthread_self()) }

    func start(name: String, executor: UnownedSerialExecutor) throws(Failure) {
        let body = ThreadBody(core: self, name: name, executor: executor)
        let argument = Unmanaged.passRetained(body).toOpaque()
        var identity = pthread_t()
        let code = pthread_create(
            &identity, nil,
            { argument in
                if let argument { Unmanaged<ThreadBody>.fromOpaque(argument).takeRetainedValue().run() }
                return nil
            }, argument)
        guard code == 0 else {
            Unmanaged<ThreadBody>.fromOpaque(argument).release()
            throw Failure("bus_unavailable", "cannot start the bus thread: \(String(cString: strerror(code)))")
        }
        pthread_detach(identity)
    }

    func push(_ item: Item) { change { $0.items.append(item) } }

    func post(_ body: @escaping @Sendable () -> Void) { push(.closure(body)) }

    func stop() { change { $0.isStopped = true } }

    /// Wakes the loop thread while the lock is held. Once it can see the change, the thread may run the item, lose the
    /// last reference to this object with it and end: a signal that came later would go to whoever has got the
    /// descriptor's number by then.
    private func change(_ body: (inout sending Queue) -> Void) {
        queue.withLock { queue in
            body(&queue)
            guard queue.isAsleep else { return }
            queue.isAsleep = false
            // The thread itself looks at the queue before it sleeps again.
            if !isOnLoop { cs_eventfd_signal(wakeDescriptor) }
        }
    }

    /// Runs on the loop thread. `completion` is called once ZeroMQ is gone.
    func beginClosing(_ completion: @escaping @Sendable () -> Void) {
        if closing.hasEnded { return completion() }
        closing.waiters.append(completion)
        guard !closing.hasBegun else { return }
        closing.hasBegun = true
        context.beginClosing()
    }

    fileprivate func run(_ executor: UnownedSerialExecutor) {
        thread.store(UInt(pthread_self()), ordering: .releasing)
        while true {
            let (items, isStopped) = queue.withLock { queue in
                let items = queue.items
                queue.items.removeAll(keepingCapacity: true)
                queue.isAsleep = false
                return (items, queue.isStopped)
            }
            if items.isEmpty, isStopped { break }
            for item in items {
                switch item {
                case .job(let job): job.runSynchronously(on: executor)
                case .closure(let body): body()
                }
            }
            finishClosing()
            if reactor.poll(limit: pollLimit()) { cs_eventfd_drain(wakeDescriptor) }
        }
        context.beginClosing()
        reactor.closeAll()
    }

    private func pollLimit() -> Int {
        let isAsleep = queue.withLock { queue in
            queue.isAsleep = queue.items.isEmpty && !queue.isStopped
            return queue.isAsleep
        }
        guard isAsleep else { return 0 }
        // Sockets that never reached the loop are closed by other threads, which do not wake it.
        return closing.hasBegun && !closing.hasEnded ? 20 : -1
    }

    private func finishClosing() {
        guard closing.hasBegun, !closing.hasEnded else { return }
        // Each time: a client that was made before the closing began may register only now.
        reactor.closeAll()
        guard context.terminateIfIdle() else { return }
        closing.hasEnded = true
        let waiters = closing.waiters
        closing.waiters = []
        for waiter in waiters { waiter() }
    }
}

/// What a new loop thread is given. The executor is not owned: a loop that is being freed stops its thread first.
private final class ThreadBody: Sendable {
    private let core: LoopCore
    private let name: String
    private let executor: UnownedSerialExecutor

    init(core: LoopCore, name: String, executor: UnownedSerialExecutor) {
        self.core = core
        self.name = name
        self.executor = executor
    }

    func run() {
        cs_thread_set_name(name)
        core.run(executor)
    }
}
