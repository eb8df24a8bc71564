import Wire

// What the broker decides leaves it in two ways: as an entry of the ledger, and as a message after its commit.
extension BrokerState {
    /// Decides a fact: it is folded now and committed before anything of this step is sent.
    mutating func commit(_ entry: LedgerEntry, now: Instant) {
        step.entries.append(entry)
        let unneeded = records.apply(entry)
        for digest in unneeded.stored { orphans[digest] = now.milliseconds + configuration.orphanMilliseconds }
        for held in unneeded.held { workers[held.session]?.releases.append((held.digest, 3)) }
        if case .taskCompleted(let completion) = entry { keepOutputs(of: completion) }
        reindex(entry.job)
        touch(entry.job)
        isForecastStale = true
        switch entry {
        case .jobAccepted, .leaseGranted, .taskCompleted, .jobEnded: hasQueueMoved = true
        default: break
        }
    }

    /// A release of the same bytes that still waits was for an earlier task.
    private mutating func keepOutputs(of completion: TaskCompletion) {
        guard let task = records.task(of: completion.lease), !task.areOutputsReleased, let session = task.session else {
            return
        }
        let digests = completion.outputs.map(\.ref.digest)
        workers[session]?.releases.removeAll { digests.contains($0.digest) }
    }

    mutating func send(_ message: Message, to session: SessionID, inReplyTo: UInt64 = 0) {
        step.sends.append(Outgoing(to: session, message, inReplyTo: inReplyTo))
    }

    mutating func sendError(
        _ code: String, _ message: String, to session: SessionID, inReplyTo: UInt64, retryAfter: UInt32 = 0
    ) {
        let reply = ErrorReply(
            code: code, message: cut(message, toBytes: Limits.messageBytes), retryAfterMilliseconds: retryAfter)
        send(.error(reply), to: session, inReplyTo: inReplyTo)
    }

    /// Something about the job changed that watchers must see now.
    mutating func touch(_ job: String) {
        guard records.jobs[job] != nil else { return }
        revisions[job, default: 0] += 1
        changed.insert(job)
    }

    /// Something changed that may wait for the next conflated event.
    mutating func touchProgress(_ job: String) {
        guard records.jobs[job] != nil else { return }
        revisions[job, default: 0] += 1
        progressed.insert(job)
    }

    /// Queue positions or waiting notes may have changed: watchers of waiting jobs see it with the next event, each the
    /// later the more of them there are.
    mutating func touchQueue(_ now: Instant) {
        guard hasQueueMoved, now.milliseconds >= nextQueueEventAt else { return }
        hasQueueMoved = false
        nextQueueEventAt = now.milliseconds + max(configuration.eventMilliseconds, UInt64(watchers.count))
        for job in watchers.keys where records.jobs[job]?.state == .accepted && !changed.contains(job) {
            touchProgress(job)
        }
    }

    /// Workers came or went: every watched job's waiting notes may have changed.
    mutating func touchWatched() {
        for job in watchers.keys { touchProgress(job) }
    }

    /// Revisions rise across restarts because the epoch does.
    func revision(of job: String) -> UInt64 { configuration.epoch << 32 | revisions[job, default: 0] }

    var welcome: Welcome {
        Welcome(
            beatMilliseconds: UInt32(clamping: configuration.beatMilliseconds),
            leaseMilliseconds: UInt32(clamping: configuration.leaseMilliseconds),
            storeLocations: configuration.storeLocations, cell: configuration.cell)
    }
}
