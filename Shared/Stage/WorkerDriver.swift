import Bus
import Failure
import Glibc
import Logging
import Wire
import Work

/// Feeds the worker's state machine and carries out what it asks for.
///
/// Everything that happens (the connection, the clock, finished tasks, the wish to stop) arrives in one stream and is
/// handled in order, so that the machine's effects leave in the order it gave them.
actor WorkerDriver {
    enum Input: Sendable {
        case event(WorkerEvent)
        case outcome(Lease, TaskOutcome)
        /// SIGTERM: hand everything back and leave.
        case shutdown
        /// Half the grace of a shutdown is over: what has not reached its next step stops where it is.
        case graceHalfOver
        /// The grace of a shutdown is over.
        case graceOver
        /// A task that made no progress has not stopped either.
        case hung(Lease)
    }

    /// How long outputs that somebody may still fetch keep a drained worker alive.
    private static let drainPatience = Duration.seconds(600)

    private let handler: any StageHandler
    private let client: ControlClient
    private let store: DurableStore
    private let outputs: MemoryStore
    private let dataLocations: [Location]
    private let grace: Duration
    private let security: BusSecurity?
    private let logger: Logger
    private let inputs: AsyncStream<Input>
    private let inbox: AsyncStream<Input>.Continuation

    private var state: WorkerState
    private struct Running {
        let progress: TaskProgress
        let executor: ComputeExecutor
        let task: Task<Void, Never>

        /// Stops the computation at its next step and a transfer at once.
        func cancel(_ reason: String) {
            progress.cancel(reason)
            task.cancel()
        }
    }

    private var running: [Lease: Running] = [:]
    private var idleExecutors: [ComputeExecutor]
    /// Done here, not yet COMMITTED.
    private var unconfirmed: Set<Lease> = []
    private var confirmationDeadline: ContinuousClock.Instant?
    private var isLeaving = false
    /// When nothing was left to do after an order to drain.
    private var drainedAt: ContinuousClock.Instant?
    private var problem: Failure?

    init(
        handler: any StageHandler, hello: Hello, client: ControlClient, store: DurableStore, outputs: MemoryStore,
        security: BusSecurity?, grace: Duration, logger: Logger
    ) {
        self.security = security
        self.handler = handler
        self.client = client
        self.store = store
        self.outputs = outputs
        self.grace = grace
        self.logger = logger
        dataLocations = hello.dataLocations
        state = WorkerState(hello: hello)
        idleExecutors = (0..<hello.slots).map { ComputeExecutor(label: "\(hello.worker) slot \($0)") }
        (inputs, inbox) = AsyncStream.makeStream(of: Input.self)
    }

    nonisolated func shutDown() { inbox.yield(.shutdown) }

    /// Serves until `shutDown` has been carried out, the worker was drained, or the surrounding task is cancelled.
    ///
    /// - Returns: `compute_hung` when a computation can only be ended with its process, otherwise nil.
    func run() async -> Failure? {
        let inbox = inbox
        let client = client
        let security = security
        let connection = Task {
            for await event in client.events {
                switch event {
                case .connected: inbox.yield(.event(.connected))
                case .disconnected: inbox.yield(.event(.disconnected))
                case .received(let envelope):
                    if case .keyRing(let ring) = envelope.message {
                        security?.adopt(ring)
                    } else {
                        inbox.yield(.event(.received(envelope)))
                    }
                }
            }
        }
        let clock = Task {
            while !Task.isCancelled {
                try? await Task.sleep(for: .milliseconds(100))
                inbox.yield(.event(.tick))
            }
        }
        for await input in inputs {
            await handle(input)
            if isEmptied { isLeaving = true }
            if isLeaving && running.isEmpty && hasWaitedForConfirmation() { break }
        }
        connection.cancel()
        clock.cancel()
        await leave()
        return problem
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
        await advance(.goodbye)
        if await client.isConnected {
            _ = try? await client.request(.clusterQuery, timeout: .milliseconds(500))
        }
        logger.info("stopped")
    }

    private func handle(_ input: Input) async {
        switch input {
        case .event(let event):
            if case .tick = event { await reportProgress() }
            await advance(event)
        case .outcome(let lease, let outcome): await conclude(lease, outcome)
        case .shutdown:
            guard !isLeaving else { return }
            logger.info("stopping", metadata: ["running": "\(running.count)"])
            await beginLeaving()
        case .graceHalfOver: for run in running.values { run.cancel("shutdown") }
        case .graceOver:
            guard !running.isEmpty else { return }
            logger.warning("a computation did not stop in time", metadata: ["running": "\(running.count)"])
            running = [:]
        case .hung(let lease):
            guard running.removeValue(forKey: lease) != nil else { return }
            let failure = Failure(
                "compute_hung",
                "task \(lease.task) made no progress and did not stop within \(grace)",
                remedy: "This process ends; start it again. The job went to another worker.")
            logger.critical("\(failure)", metadata: metadata(lease))
            problem = failure
            await beginLeaving()
        }
    }

    /// Takes nothing more. What can go on elsewhere from its next step gets half the grace to reach it; everything else
    /// stops as soon as it can.
    private func beginLeaving() async {
        isLeaving = true
        await advance(.drain)
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

    private func advance(_ event: WorkerEvent) async {
        for effect in state.handle(event, now: .current) { await perform(effect) }
    }

    private func reportProgress() async {
        state.storeBytes = UInt64(outputs.totalBytes)
        state.fetched = store.fetched
        for (lease, run) in running {
            let step = UInt32(clamping: run.progress.step)
            await advance(.progress(lease, step: step, totalSteps: UInt32(clamping: run.progress.total)))
        }
    }

    // MARK: Effects

    private func perform(_ effect: WorkerEffect) async {
        switch effect {
        case .send(let message, let inReplyTo): await client.send(message, inReplyTo: inReplyTo)
        case .brokerEpoch(let epoch): await client.setBrokerEpoch(epoch)
        case .welcomed(let welcome):
            store.moved(to: welcome.storeLocations)
            logger.info("registered", metadata: ["lease_ms": "\(welcome.leaseMilliseconds)"])
        case .rejected(let error):
            logger.error(
                "the broker refuses this worker", metadata: ["code": "\(error.code)", "reason": "\(error.message)"])
        case .start(let assign): start(assign)
        case .cancel(let lease, let reason):
            guard let run = running[lease] else { break }
            logger.info("stopping task", metadata: metadata(lease, ["reason": "\(reason)"]))
            run.cancel(reason)
            if reason == "stalled" { expectToStop(lease) }
        case .yield(let lease, let reason):
            guard let run = running[lease] else { break }
            logger.info("handing back at the next step", metadata: metadata(lease, ["reason": "\(reason)"]))
            run.progress.yield(reason)
        case .committed(let lease):
            unconfirmed.remove(lease)
            logger.debug("committed", metadata: metadata(lease))
        case .checkpointCommitted(let lease, let step):
            logger.debug("checkpoint committed", metadata: metadata(lease, ["step": "\(step)"]))
        case .release(let digests):
            for digest in digests { outputs.release(digest) }
        case .drained:
            logger.info("drained")
            drainedAt = .now
        }
    }

    /// A computation that hangs ends only with its process.
    private func expectToStop(_ lease: Lease) {
        let inbox = inbox
        let grace = grace
        Task {
            try? await Task.sleep(for: grace)
            inbox.yield(.hung(lease))
        }
    }

    private func start(_ assign: Assign) {
        let lease = assign.lease
        // The machine starts no more tasks than there are slots.
        guard let executor = idleExecutors.popLast() else { return }
        let progress = TaskProgress()
        logger.info(
            "task started",
            metadata: metadata(lease, ["attempt": "\(assign.attempt)", "from_step": "\(assign.checkpointStep)"]))
        let inbox = inbox
        let handler = handler
        let run = TaskRun(
            assign: assign, progress: progress, store: store, outputs: outputs, dataLocations: dataLocations,
            checkpointStored: { step, ref in
                inbox.yield(.event(.checkpointStored(lease, step: step, ref: ref)))
            })
        let task = Task(executorPreference: executor) {
            _ = inbox.yield(.outcome(lease, await run.execute(handler)))
        }
        running[lease] = Running(progress: progress, executor: executor, task: task)
    }

    private func conclude(_ lease: Lease, _ outcome: TaskOutcome) async {
        guard let run = running.removeValue(forKey: lease) else { return }
        idleExecutors.append(run.executor)
        switch outcome {
        case .finished(let refs, let elapsed, let notes):
            logger.info("task done", metadata: metadata(lease, ["elapsed_ms": "\(elapsed)"]))
            unconfirmed.insert(lease)
            await advance(.finished(lease, outputs: refs, elapsedMilliseconds: elapsed, notes: notes))
        case .failed(let failure, let missingInputs):
            logger.warning(
                "task failed", metadata: metadata(lease, ["code": "\(failure.code)", "reason": "\(failure.message)"]))
            await advance(.failed(lease, failure, missingInputs: missingInputs))
        case .stopped:
            logger.info("task stopped", metadata: metadata(lease))
            // A task stopped by our own shutdown stays leased until GOODBYE hands it back.
            await advance(.stopped(lease))
        }
    }

    private func metadata(_ lease: Lease, _ more: Logger.Metadata = [:]) -> Logger.Metadata {
        more.merging(["task": "\(lease.task)", "fence": "\(lease.fence)"]) { first, _ in first }
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
