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
    private static let watchedFor = Duration.seconds(3)

    private let handler: any StageHandler
    private let links: [CellLink]
    private let outputs: MemoryStore
    private let server: DataServer
    private let dataLocations: [Location]
    private let grace: Duration
    private let security: BusSecurity?
    private let logger: Logger
    private let inputs: AsyncStream<Input>
    private let inbox: AsyncStream<Input>.Continuation

    private var state: WorkerCells
    private struct Running {
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

    private var running: [HeldLease: Running] = [:]
    private var idleExecutors: [ComputeExecutor]
    /// Done here, not yet COMMITTED.
    private var unconfirmed: Set<HeldLease> = []
    /// The brokers whose jobs may still need a blob in memory: two jobs may make the same bytes.
    private var keepers: [Digest: Set<Int>] = [:]
    private var confirmationDeadline: ContinuousClock.Instant?
    private var isLeaving = false
    /// When nothing was left to do after an order to drain.
    private var drainedAt: ContinuousClock.Instant?
    private var problem: Failure?
    /// Previews made for whomever since the start.
    private var previews: UInt64 = 0

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

    private func advance(_ event: WorkerEvent, cell: Int) async {
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

    // MARK: Effects

    private func perform(_ effect: WorkerEffect, of cell: Int) async {
        switch effect {
        case .send(let message, let inReplyTo): await links[cell].client.send(message, inReplyTo: inReplyTo)
        case .brokerEpoch(let epoch): await links[cell].client.setBrokerEpoch(epoch)
        case .welcomed(let welcome):
            links[cell].store.moved(to: welcome.storeLocations)
            logger.info(
                "registered", metadata: ["lease_ms": "\(welcome.leaseMilliseconds)", "cell": "\(welcome.cell)"])
        case .rejected(let error):
            logger.error(
                "this broker cannot be served",
                metadata: [
                    "code": "\(error.code)", "reason": "\(error.message)",
                    "broker": "\(links[cell].client.endpoint)",
                ])
        case .start(let assign): start(assign, of: cell)
        case .assist(let order): await assist(order, of: cell)
        case .cancel(let lease, let reason):
            let held = HeldLease(cell: cell, lease: lease)
            guard let run = running[held] else { break }
            logger.info("stopping task", metadata: metadata(held, ["reason": "\(reason)"]))
            run.cancel(reason)
            if reason == "stalled" { expectToStop(held) }
        case .yield(let lease, let reason):
            let held = HeldLease(cell: cell, lease: lease)
            guard let run = running[held] else { break }
            logger.info("handing back at the next step", metadata: metadata(held, ["reason": "\(reason)"]))
            run.progress.yield(reason)
        case .committed(let lease):
            let held = HeldLease(cell: cell, lease: lease)
            unconfirmed.remove(held)
            logger.debug("committed", metadata: metadata(held))
        case .checkpointCommitted(let lease, let step):
            logger.debug(
                "checkpoint committed",
                metadata: metadata(HeldLease(cell: cell, lease: lease), ["step": "\(step)"]))
        case .watched(let leases):
            for lease in leases {
                running[HeldLease(cell: cell, lease: lease)]?.progress.watch(for: Self.watchedFor)
            }
        case .release(let digests): release(digests, cell)
        case .drained:
            logger.info("drained")
            drainedAt = .now
        }
    }

    /// Sends a preview; one that cannot be sent now is not missed.
    private func show(_ picture: PreviewPicture, of held: HeldLease) async {
        previews += 1
        guard running[held] != nil, picture.jpeg.count <= Limits.previewBytes else { return }
        let preview = Preview(
            lease: held.lease, step: UInt32(clamping: picture.step), totalSteps: UInt32(clamping: picture.totalSteps),
            width: UInt32(clamping: picture.width), height: UInt32(clamping: picture.height), jpeg: picture.jpeg)
        _ = await links[held.cell].client.send(.preview(preview))
    }

    private func release(_ digests: [Digest], _ cell: Int) {
        for digest in digests {
            keepers[digest]?.remove(cell)
            guard keepers[digest]?.isEmpty ?? true else { continue }
            keepers[digest] = nil
            outputs.release(digest)
        }
    }

    /// A computation that hangs ends only with its process.
    private func expectToStop(_ held: HeldLease) {
        let inbox = inbox
        let grace = grace
        Task {
            try? await Task.sleep(for: grace)
            inbox.yield(.hung(held))
        }
    }

    private func start(_ assign: Assign, of cell: Int) {
        let lease = assign.lease
        let held = HeldLease(cell: cell, lease: lease)
        // The machine starts no more tasks than there are slots.
        guard let executor = idleExecutors.popLast() else { return }
        let progress = TaskProgress()
        logger.info(
            "task started",
            metadata: metadata(held, ["attempt": "\(assign.attempt)", "from_step": "\(assign.checkpointStep)"]))
        let inbox = inbox
        let handler = handler
        let run = TaskRun(
            assign: assign, progress: progress, store: links[cell].store, outputs: outputs,
            dataLocations: dataLocations, desk: AssistanceDesk(server: server, client: links[cell].client),
            checkpointStored: { step, ref in
                inbox.yield(.event(.checkpointStored(lease, step: step, ref: ref), cell: cell))
            },
            previewMade: { inbox.yield(.preview(held, $0)) })
        let task = Task(executorPreference: executor) {
            _ = inbox.yield(.outcome(held, await run.execute(handler)))
        }
        running[held] = Running(
            areOutputsDurable: assign.durableOutputs, progress: progress, executor: executor, task: task)
    }

    /// Computes for another worker's task; its slot is this worker's own. A follower mostly waits and takes none.
    private func assist(_ order: AssistOrder, of cell: Int) async {
        let held = HeldLease(cell: cell, lease: order.lease)
        let slot = order.follows || running[held] != nil ? nil : idleExecutors.popLast()
        guard running[held] == nil, order.follows || slot != nil else {
            return await advance(.stopped(order.lease), cell: cell)
        }
        let executor = slot ?? ComputeExecutor(label: "follower of \(order.lease.task)")
        let progress = TaskProgress()
        let run = AssistanceRun(order: order, progress: progress, data: links[cell].data, logger: logger)
        let inbox = inbox
        let handler = handler
        let task = Task(executorPreference: executor) {
            await run.execute(handler)
            _ = inbox.yield(.outcome(held, .stopped))
        }
        running[held] = Running(areOutputsDurable: true, progress: progress, executor: slot, task: task)
    }

    private func conclude(_ held: HeldLease, _ outcome: TaskOutcome) async {
        guard let run = running.removeValue(forKey: held) else { return }
        if let executor = run.executor { idleExecutors.append(executor) }
        state.setWarm(handler.warm)
        switch outcome {
        case .finished(let refs, let elapsed, let notes, let manner):
            logger.info("task done", metadata: metadata(held, ["elapsed_ms": "\(elapsed)"]))
            unconfirmed.insert(held)
            if !run.areOutputsDurable {
                for output in refs { keepers[output.ref.digest, default: []].insert(held.cell) }
            }
            await advance(
                .finished(held.lease, outputs: refs, elapsedMilliseconds: elapsed, notes: notes, manner: manner),
                cell: held.cell)
        case .failed(let failure, let missingInputs):
            logger.warning(
                "task failed", metadata: metadata(held, ["code": "\(failure.code)", "reason": "\(failure.message)"]))
            await advance(.failed(held.lease, failure, missingInputs: missingInputs), cell: held.cell)
        case .stopped:
            logger.info("task stopped", metadata: metadata(held))
            // A task stopped by our own shutdown stays leased until GOODBYE hands it back.
            await advance(.stopped(held.lease), cell: held.cell)
        }
    }

    private func metadata(_ held: HeldLease, _ more: Logger.Metadata = [:]) -> Logger.Metadata {
        var metadata: Logger.Metadata = ["task": "\(held.lease.task)", "fence": "\(held.lease.fence)"]
        if links.count > 1 { metadata["cell"] = "\(state.name(of: held.cell))" }
        return metadata.merging(more) { first, _ in first }
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
