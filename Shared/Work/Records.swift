package import Wire

/// Blobs that the last entry made unnecessary.
package struct Unneeded: Sendable, Hashable {
    /// In the broker's store: no record refers to them any more.
    package var stored: [Digest] = []
    /// In a worker's memory: non-durable outputs that no unfinished task will read.
    package var held: [Held] = []

    package struct Held: Sendable, Hashable {
        package var session: SessionID
        package var digest: Digest
    }
}

/// The broker's durable state: the fold of its ledger entries.
///
/// `apply` never fails: entries are decided by `BrokerState`, which checks them before they are committed, and an entry
/// about something unknown (a job forgotten since) changes nothing.
package struct Records: Sendable, Hashable {
    package private(set) var jobs: [String: JobRecord] = [:]
    /// Job ids, oldest first.
    package private(set) var order: [String] = []
    package private(set) var unfinished: Set<String> = []
    package private(set) var keys: [SubmissionKey: String] = [:]
    /// Fences are unique in the whole cluster and only rise.
    package private(set) var lastFence: UInt64 = 0
    package private(set) var lastOrdinal: UInt64 = 0
    /// How many records refer to each blob of the broker's store.
    private var references: [Digest: Int] = [:]
    /// How many tasks count on each blob in a worker's memory: two jobs may ask for the same bytes.
    private var held: [Unneeded.Held: Int] = [:]

    package init() {}

    /// Rebuilds the state from a snapshot: the jobs as they were and the two counters.
    package init(jobs: [JobRecord], lastFence: UInt64, lastOrdinal: UInt64) {
        self.lastFence = lastFence
        self.lastOrdinal = lastOrdinal
        for job in jobs.sorted(by: { $0.ordinal < $1.ordinal }) {
            insert(job)
            for task in job.tasks {
                for digest in Self.storedDigests(of: task) { references[digest, default: 0] += 1 }
                for blob in Self.heldOutputs(of: task) { held[blob, default: 0] += 1 }
            }
        }
    }

    /// Whether any record needs this blob of the broker's store.
    package func refers(to digest: Digest) -> Bool { references[digest] != nil }

    /// Whether any unfinished task will read this blob from the session's memory.
    package func refers(to digest: Digest, in session: SessionID) -> Bool {
        held[.init(session: session, digest: digest)] != nil
    }

    /// The task a lease names, if that lease is the task's current or last one.
    package func task(of lease: Lease) -> TaskRecord? {
        guard let task = jobs[lease.task.job]?.task(lease.task.name), task.fence == lease.fence else { return nil }
        return task
    }

    /// Applies one entry.
    /// - Returns: blobs that lost their last use.
    @discardableResult
    package mutating func apply(_ entry: LedgerEntry) -> Unneeded {
        switch entry {
        case .jobAccepted(let acceptance):
            lastOrdinal += 1
            let job = JobRecord(acceptance, ordinal: lastOrdinal)
            insert(job)
            for task in job.tasks {
                for digest in Self.storedDigests(of: task) { references[digest, default: 0] += 1 }
            }
            if let retried = acceptance.retryOf { jobs[retried]?.retriedAs = acceptance.job }
            return Unneeded()
        case .jobForgotten(let id): return forget(id)
        case .leaseGranted(let grant):
            lastFence = max(lastFence, grant.lease.fence)
            touch(grant.lease.task.job) { $0.grant(grant) }
            return Unneeded()
        case .checkpointCommitted(let commit): return change(commit.lease.task.job) { $0.commit(commit) }
        case .taskCompleted(let completion): return change(completion.lease.task.job) { $0.complete(completion) }
        case .leaseEnded(let end):
            touch(end.lease.task.job) { $0.end(end) }
            return Unneeded()
        case .outputsLost(let loss): return change(loss.job) { $0.lose(loss) }
        case .jobEnded(let end): return change(end.job) { $0.end(end) }
        case .deadlineMoved(let move): return change(move.job) { $0.move(move) }
        }
    }

    private mutating func insert(_ job: JobRecord) {
        jobs[job.job] = job
        order.append(job.job)
        if !job.state.isTerminal { unfinished.insert(job.job) }
        if !job.key.key.isEmpty { keys[job.key] = job.job }
    }

    private mutating func forget(_ id: String) -> Unneeded {
        guard let job = jobs.removeValue(forKey: id) else { return Unneeded() }
        order.removeAll { $0 == id }
        unfinished.remove(id)
        if keys[job.key] == id { keys[job.key] = nil }
        var unneeded = Unneeded()
        for task in job.tasks {
            for digest in Self.storedDigests(of: task) { release(digest, into: &unneeded) }
        }
        return unneeded
    }

    /// Changes one job in a way that concerns no blob.
    private mutating func touch(_ id: String, _ body: (inout JobRecord) -> Void) {
        guard let place = jobs.index(forKey: id) else { return }
        body(&jobs.values[place])
    }

    /// Changes one job and settles the blob references that changed with it.
    private mutating func change(_ id: String, _ body: (inout JobRecord) -> Void) -> Unneeded {
        guard var job = jobs.removeValue(forKey: id) else { return Unneeded() }
        let before = job.tasks
        body(&job)
        for index in job.tasks.indices where isReleasable(job.tasks[index], in: job) {
            job.tasks[index].areOutputsReleased = true
        }
        var unneeded = Unneeded()
        for (old, new) in zip(before, job.tasks) where old != new {
            let stored = (old: Self.storedDigests(of: old), new: Self.storedDigests(of: new))
            for digest in stored.new { references[digest, default: 0] += 1 }
            for digest in stored.old { release(digest, into: &unneeded) }
            for blob in Self.heldOutputs(of: new) { held[blob, default: 0] += 1 }
            for blob in Self.heldOutputs(of: old) { release(blob, into: &unneeded) }
            // Nobody will ever read the outputs of a job that ended before they were made.
            if new.areOutputsReleased, old.state != .done { unneeded.held += Self.outputsInMemory(of: new) }
        }
        if job.state.isTerminal { unfinished.remove(id) }
        jobs[id] = job
        return unneeded
    }

    private func isReleasable(_ task: TaskRecord, in job: JobRecord) -> Bool {
        guard task.state == .done, !task.specification.durableOutputs, !task.areOutputsReleased else { return false }
        return job.state.isTerminal || job.areConsumersDone(of: task.specification.name)
    }

    private mutating func release(_ digest: Digest, into unneeded: inout Unneeded) {
        guard let count = references[digest] else { return }
        if count > 1 {
            references[digest] = count - 1
        } else {
            references[digest] = nil
            unneeded.stored.append(digest)
        }
    }

    private mutating func release(_ blob: Unneeded.Held, into unneeded: inout Unneeded) {
        guard let count = held[blob] else { return }
        if count > 1 {
            held[blob] = count - 1
        } else {
            held[blob] = nil
            unneeded.held.append(blob)
        }
    }

    /// Blobs in a worker's memory that a task keeps alive.
    private static func heldOutputs(of task: TaskRecord) -> [Unneeded.Held] {
        task.state == .done && !task.areOutputsReleased ? outputsInMemory(of: task) : []
    }

    private static func outputsInMemory(of task: TaskRecord) -> [Unneeded.Held] {
        guard !task.specification.durableOutputs, let session = task.session else { return [] }
        return task.outputs.map { .init(session: session, digest: $0.ref.digest) }
    }

    /// Blobs of the broker's store that a task keeps alive: client uploads, its two checkpoints, its durable outputs.
    private static func storedDigests(of task: TaskRecord) -> [Digest] {
        var digests = uploads(of: task.specification)
        if let checkpoint = task.checkpoint { digests.append(checkpoint.digest) }
        if let earlier = task.earlierCheckpoint { digests.append(earlier.ref.digest) }
        if task.specification.durableOutputs { digests += task.outputs.map(\.ref.digest) }
        return digests
    }

    private static func uploads(of task: TaskSpecification) -> [Digest] {
        task.inputs.compactMap { if case .blob(let ref) = $0.source { ref.digest } else { nil } }
    }
}
