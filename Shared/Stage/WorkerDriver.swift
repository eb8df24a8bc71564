import Bus
import Failure
import Glibc
import Logging
import Wire
import Work

/// Feeds the worker's state machine and carries out what it asks for.
///
/// Everything that happens (the connections, the clock, finished tasks, the wish to stop) arrives in one stream and is
/// handled in order, so that the machine's effects leave in the order it gave them.
actor WorkerDriver {
    enum Input: Sendable {
        case event(WorkerEvent, cell: Int)
        case tick
        case outcome(HeldLease, TaskOutcome)
        case preview(HeldLease, PreviewPicture)
        /// SIGTERM: hand everything back and leave.
        case shutdown
        /// Half the grace of a shutdown is over: what has not reached its next step stops where it is.
        case graceHalfOver
        /// The grace of a shutdown is over.
        case graceOver
        /// A task that made no progress has not stopped either.
        case hung(HeldLease)
    }

    /// How long outputs that somebody may still fetch keep a drained worker alive.
    private static let drainPatience = Duration.seconds(600)
    /// How long the answer to a beat counts that says that somebody looks; the next one renews it.
    static let watchedFor = Duration.seconds(3)

    let handler: any StageHandler
    let links: [CellLink]
    let outputs: MemoryStore
    let server: DataServer
    let dataLocations: [Location]
    let grace: Duration
    private let security: BusSecurity?
    let logger: Logger
    private let inputs: AsyncStream<Input>
    let inbox: AsyncStream<Input>.Continuation

    var state: WorkerCells
    struct Running {
        let areOutputsDurable: Bool
        let progress: TaskProgress
        /// A slot's; nil when it takes none.
        let executor: ComputeExecutor?
        let task: Task<Void, Never>

        /// Stops the computation at its next step and a transfer at once.
        func cancel(_ reason: String) {
            progress.cancel(reason)
            task.cancel()
        }
    }

    var running: [HeldLease: Running] = [:]
    var idleExecutors: [ComputeExecutor]
    /// Done here, not yet COMMITTED.
    var unconfirmed: Set<HeldLease> = []
    /// The brokers whose jobs may still need a blob in memory: two jobs may make the same bytes.
    var keepers: [Digest: Set<Int>] = [:]
    private var confirmationDeadline: ContinuousClock.Instant?
    private var isLeaving = false
    /// When nothing was left to do after an order to drain.
    var drainedAt: ContinuousClock.Instant?
    private var problem: Failure?
    /// Previews made for whomever since the start.
    var previews: UInt64 = 0

    init(
        handler: any StageHandler, hello: Hello, links: [CellLink], outputs: MemoryStore, server: DataServer,
        security: BusSecurity?, grace: Duration, logger: Logger
    ) {
        self.security = security
        self.server = server
        self.handler = handler
        self.links = links
        self.outputs = outputs
        self.grace = grace
        self.logger = logger
        dataLocations = hello.dataLocations
        state = WorkerCells(hello: hello, cells: links.map(\.expectedName))
        idleExecutors = (0..<hello.slots).map { ComputeExecutor(label: "\(hello.worker) slot \($0)") }
        (inputs, inbox) = AsyncStream.makeStream(of: Input.self)
    }

    nonisolated func shutDown() { inbox.yield(.shutdown) }

    /// Serves until `shutDown` has been carried out, the worker was drained, or the surrounding task is cancelled.
    ///
    /// - Returns: `compute_hung` when a computation can only be ended with its process, otherwise nil.
    func run() async -> Failure? {
        let connections = links.enumerated().map { cell, link in listen(to: link.client, cell: cell) }
        let inbox = inbox
        let clock = Task {
            while !Task.isCancelled {
                try? await Task.sleep(for: .milliseconds(100))
                inbox.yield(.tick)
            }
        }
        for await input in inputs {
            await handle(input)
            if isEmptied { isLeaving = true }
            if isLeaving && running.isEmpty && hasWaitedForConfirmation() { break }
        }
        for connection in connections { connection.cancel() }
        clock.cancel()
        await leave()
        return problem
    }

    private func listen(to client: ControlClient, cell: Int) -> Task<Void, Never> {
        let inbox = inbox
        let security = security
        return Task {
            for await event in client.events {
                switch event {
                case .connected: inbox.yield(.event(.connected, cell: cell))
                case .disconnected: inbox.yield(.event(.disconnected, cell: cell))
                case .received(let envelope):
                    if case .keyRing(let ring) = envelope.message {
                        security?.adopt(ring, of: cell)
                    } else {
                        inbox.yield(.event(.received(envelope), cell: cell))
                    }
                }
            }
        }
    }

    /// Whether nothing is unconfirmed any more, or the broker has had two seconds to confirm it; beats repeat it.
    private func hasWaitedForConfirmation() -> Bool {
        let deadline = confirmationDeadline ?? .now + .seconds(2)
        confirmationDeadline = deadline
        return unconfirmed.isEmpty && (state.isEmpty || problem != nil) || .now >= deadline
    }

    /// Whether the order to drain is carried out and nobody needs this worker's memory any more.
    private var isEmptied: Bool {
        guard let drainedAt else { return false }
        return outputs.totalBytes == 0 || drainedAt.duration(to: .now) >= Self.drainPatience
    }

    /// Hands every lease back. Closing drops what is still queued, so a round trip makes sure that GOODBYE arrived.
    private func leave() async {
        await advanceAll(.goodbye)
        for link in links where await link.client.isConnected {
            _ = try? await link.client.request(.clusterQuery, timeout: .milliseconds(500))
        }
        logger.info("stopped")
    }

    private func handle(_ input: Input) async {
        switch input {
        case .event(let event, let cell): await advance(event, cell: cell)
        case .tick:
            await reportProgress()
            await advanceAll(.tick)
        case .outcome(let held, let outcome): await conclude(held, outcome)
        case .preview(let held, let picture): await show(picture, of: held)
        case .shutdown:
            guard !isLeaving else { return }
            logger.info("stopping", metadata: ["running": "\(running.count)"])
            await beginLeaving()
        case .graceHalfOver: for run in running.values { run.cancel("shutdown") }
        case .graceOver:
            guard !running.isEmpty else { return }
            logger.warning("a computation did not stop in time", metadata: ["running": "\(running.count)"])
            running = [:]
        case .hung(let held):
            guard running.removeValue(forKey: held) != nil else { return }
            let failure = Failure(
                "compute_hung",
                "task \(held.lease.task) made no progress and did not stop within \(grace)",
                remedy: "This process ends; start it again. The job went to another worker.")
            logger.critical("\(failure)", metadata: metadata(held))
            problem = failure
            await beginLeaving()
        }
    }

    /// Takes nothing more. What can go on elsewhere from its next step gets half the grace to reach it; everything else
    /// stops as soon as it can.
    private func beginLeaving() async {
        isLeaving = true
        await advanceAll(.drain)
        if !handler.isResumable { for run in running.values { run.cancel("shutdown") } }
        let inbox = inbox
        let grace = grace
        Task {
            try? await Task.sleep(for: grace / 2)
            inbox.yield(.graceHalfOver)
            try? await Task.sleep(for: grace / 2)
            inbox.yield(.graceOver)
        }
    }

    func advance(_ event: WorkerEvent, cell: Int) async {
        for done in state.handle(event, of: cell, now: .current) { await perform(done.effect, of: done.cell) }
    }

    private func advanceAll(_ event: WorkerEvent) async {
        for done in state.handleForAll(event, now: .current) { await perform(done.effect, of: done.cell) }
    }

    private func reportProgress() async {
        let bytes = outputs.totalBytes
        if bytes == 0 { keepers = [:] }
        state.setStoreBytes(UInt64(bytes))
        state.setWarm(handler.warm)
        state.setPreviews(previews)
        for (cell, link) in links.enumerated() { state.setFetched(link.store.fetched, of: cell) }
        for (held, run) in running {
            let progress = WorkerEvent.progress(
                held.lease, step: UInt32(clamping: run.progress.step),
                totalSteps: UInt32(clamping: run.progress.total))
            await advance(progress, cell: held.cell)
        }
    }
}

extension Instant {
    /// The boot clock, which goes on while the machine sleeps.
    static var current: Instant {
        var time = timespec()
        clock_gettime(CLOCK_BOOTTIME, &time)
        return Instant(milliseconds: UInt64(time.tv_sec) * 1000 + UInt64(time.tv_nsec) / 1_000_000)
    }
}
