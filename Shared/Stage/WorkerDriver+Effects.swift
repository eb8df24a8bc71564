import Bus
import Failure
import Logging
import Wire
import Work

// What the state machine asks for.
extension WorkerDriver {
    func perform(_ effect: WorkerEffect, of cell: Int) async {
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
    func show(_ picture: PreviewPicture, of held: HeldLease) async {
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

    func conclude(_ held: HeldLease, _ outcome: TaskOutcome) async {
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

    func metadata(_ held: HeldLease, _ more: Logger.Metadata = [:]) -> Logger.Metadata {
        var metadata: Logger.Metadata = ["task": "\(held.lease.task)", "fence": "\(held.lease.fence)"]
        if links.count > 1 { metadata["cell"] = "\(state.name(of: held.cell))" }
        return metadata.merging(more) { first, _ in first }
    }
}
