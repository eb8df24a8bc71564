package import Failure
package import Wire

/// The broker's side of the protocol (bus.md §2.6) as a pure state machine: no sockets, no disk, no clock, no randomness
/// but the job identifiers it is given.
///
/// Durable state is `records`, the fold of the committed entries; everything else (who is connected, when a lease runs
/// out, who watches) is volatile and heals from HELLO and BEAT after a restart. The whole safety argument is the
/// acceptance rule: CHECKPOINT, COMPLETE and FAIL count only while their fence is the task's current one and the task
/// is LEASED.
///
/// ```swift
/// var broker = BrokerState(configuration: configuration, records: ledger.load(), startedAt: now, newJob: makeIdentifier)
/// let step = broker.handle(.received(envelope), now: now)
/// try ledger.commit(step.entries)      // first
/// for outgoing in step.sends { … }     // then
/// ```
package struct BrokerState: Sendable {
    /// A connected worker, as its HELLO and its newest BEAT described it.
    struct Worker: Sendable {
        var hello: Hello
        var beatSequence: UInt64 = 0
        var lastHeardAt: UInt64
        /// Nothing is assigned before the first beat.
        var freeSlots: UInt32 = 0
        /// Slots that ASSIST took and that no beat knows of yet: the leader's fence, and when it was sent.
        var sentAssists: [(fence: UInt64, at: UInt64)] = []
        /// Fences in the newest beat.
        var listed: Set<UInt64> = []
        /// Number of the newest assignment, for taking turns.
        var lastAssignment: UInt64 = 0
        /// False after a failed send, until the worker is heard again.
        var isReachable = true
        /// What it has made progress with in this session: its weights are loaded.
        var warm: Set<Workload> = []
        /// As its newest beat told: affinities of tasks that it could begin without loading or changing weights.
        var readyFor: Set<String> = []
        /// Gets nothing more and leaves when it is empty.
        var isDraining = false
        /// As its newest beat told.
        var fetched = FetchCounters()
        /// Previews it has made, as its newest beat told.
        var previews: UInt64 = 0
        /// Blobs it may drop, with how many beat answers still say so (an answer can be lost).
        var releases: [(digest: Digest, repeats: Int)] = []
    }

    /// The volatile half of a lease.
    struct LeaseClock: Sendable {
        var session: SessionID
        var fence: UInt64
        /// Whether it must run alone on its worker.
        var isQuarantined: Bool
        var grantedAt: UInt64
        var expiresAt: UInt64
        /// Whether a beat has listed it.
        var isSeen = false
        /// Beats in a row that did not list it.
        var missingBeats = 0
        var step: UInt32 = 0
        var totalSteps: UInt32 = 0
        /// First and newest step change, for the step time of this very run.
        var firstStep: (step: UInt32, at: UInt64)?
        var newestStep: (step: UInt32, at: UInt64)?
        var longestStepMilliseconds: UInt64 = 0
        /// What the tenant's share was charged at the grant, in milliseconds.
        var charged = 0.0
        /// Why the lease is wanted back at the next step; nil = it is not.
        var yieldReason: String?
    }

    package internal(set) var configuration: BrokerConfiguration
    package internal(set) var records: Records
    /// Why nothing can be written at present (a full disk): queries are served, everything else waits.
    package internal(set) var readOnlyReason: Failure?

    var workers: [SessionID: Worker] = [:]
    var leases: [TaskID: LeaseClock] = [:]
    /// Earliest time a READY task may be leased again.
    var notBefore: [TaskID: UInt64] = [:]
    /// Refusals in a row, for their backoff.
    var refusals: [TaskID: Int] = [:]
    /// Follows from `records` and `deadlines`.
    var index = WorkIndex()
    var durations = Durations()
    var share = FairShare()
    /// Who was sent to take the inputs of a task as they come.
    var followers: [TaskID: SessionID] = [:]
    /// How often a task was asked to make room.
    var preemptions: [TaskID: Int] = [:]
    /// When jobs will end, and when that was worked out.
    var forecast: Forecast?
    var forecastAt: UInt64 = 0
    /// Something was decided since.
    var isForecastStale = false
    /// What was played forward for it.
    var foreseen: [Forecast.Work] = []
    /// What waited at the stages then.
    var foreseenBacklog = Backlog()
    /// What the tasks of unfinished jobs cost.
    var costs: [TaskID: TaskCost] = [:]
    /// Of unfinished jobs that have one.
    var deadlines: [String: DeadlineClock] = [:]
    /// No deadline passes before.
    var nextDeadlineAt = UInt64.max
    var nextAssessmentAt: UInt64 = 0
    /// Deadlines were read by the wall clock and not yet written down by this run's.
    var hasForeignDeadlines = false
    var assignments: UInt64 = 0
    /// New jobs are refused, everything else goes on.
    var isDraining = false

    /// Volatile part of each job's revision.
    var revisions: [String: UInt64] = [:]
    /// Watching sessions of each job.
    var watchers: [String: Set<SessionID>] = [:]
    var lastPushAt: [String: UInt64] = [:]
    /// Sessions that look at a job's previews, and until when.
    var previewWatchers: [String: [SessionID: UInt64]] = [:]
    /// Since watchers of waiting jobs last heard of it.
    var hasQueueMoved = false
    var nextQueueEventAt: UInt64 = 0
    var changed: Set<String> = []
    var progressed: Set<String> = []

    /// Blobs of the store without a reference, and when they may go.
    var orphans: [Digest: UInt64] = [:]
    var nextRetentionAt: UInt64 = 0
    var lastTickAt: UInt64 = 0
    var step = BrokerStep()
    let newJob: @Sendable () -> String

    /// A broker on what its ledger holds. No lease runs out before one full lease time has passed: its worker may be
    /// alive and not know yet that the broker is back.
    /// - Parameter newJob: makes job identifiers (`video_` and 32 hexadecimal digits) that never repeat.
    package init(
        configuration: BrokerConfiguration, records: Records, startedAt now: Instant,
        newJob: @escaping @Sendable () -> String
    ) {
        self.configuration = configuration
        self.records = records
        self.newJob = newJob
        restoreVolatileState(now)
    }

    /// Takes the ledger's word after a commit failed: what was decided and not written did not happen.
    /// - Parameter reason: why the ledger refuses; nil makes the broker writable again.
    package mutating func recover(records: Records, readOnly reason: Failure?, now: Instant) {
        self.records = records
        readOnlyReason = reason
        restoreVolatileState(now)
    }

    private mutating func restoreVolatileState(_ now: Instant) {
        lastTickAt = now.milliseconds
        // What a refused commit had set in motion did not happen.
        let records = records
        revisions = revisions.filter { records.jobs[$0.key] != nil }
        for session in workers.keys {
            workers[session]?.releases.removeAll { records.refers(to: $0.digest, in: session) }
        }
        leases = [:]
        durations = Durations()
        costs = [:]
        let clocks = deadlines
        deadlines = [:]
        nextDeadlineAt = .max
        forecast = nil
        for id in records.order {
            guard let job = records.jobs[id] else { continue }
            if !job.state.isTerminal {
                learnCosts(of: job)
                if let clock = clocks[id] {
                    // What this process knows it need not read by the wall clock.
                    deadlines[id] = clock
                    nextDeadlineAt = min(nextDeadlineAt, clock.at)
                } else {
                    startDeadline(of: job, .none, now: now)
                }
                if let boot = job.deadline?.boot, boot != configuration.boot { hasForeignDeadlines = true }
            }
            for task in job.tasks {
                if task.state == .done {
                    durations.learn(TaskCost(task.specification), milliseconds: task.elapsedMilliseconds)
                }
                guard task.state == .leased, let session = task.session else { continue }
                let lease = TaskID(job: id, name: task.specification.name)
                leases[lease] = LeaseClock(
                    session: session, fence: task.fence, isQuarantined: task.isQuarantined,
                    grantedAt: now.milliseconds,
                    expiresAt: now.milliseconds + configuration.leaseMilliseconds, isSeen: true,
                    step: task.checkpointStep)
            }
        }
        index = makeIndex()
        for job in watchers.keys { touch(job) }
    }

    /// Renews the index after something about the job has changed.
    mutating func reindex(_ id: String) {
        index.update(id, records.jobs[id], pressingDeadline: pressingDeadline(of: id))
    }

    /// Advances the machine by one event.
    package mutating func handle(_ event: BrokerEvent, now: Instant) -> BrokerStep {
        step = BrokerStep()
        switch event {
        case .received(let envelope): receive(envelope, now: now)
        case .stored(let digest): keep(digest, now: now)
        case .unreachable(let session): lostContact(session, now: now)
        case .tick: tick(now)
        }
        dispatch(now)
        pushEvents(now)
        let result = step
        step = BrokerStep()
        return result
    }

    private mutating func receive(_ envelope: Envelope, now: Instant) {
        let session = envelope.session
        let sequence = envelope.sequence
        switch envelope.message {
        case .hello(let hello): greet(session, hello, inReplyTo: sequence, now: now)
        case .beat(let beat): hear(session, beat, sequence: sequence, now: now)
        case .goodbye: dismiss(session, reason: .goodbye, now: now)
        case .refuse(let refuse): accept(refuse, from: session, now: now)
        case .assistRequest(let request): accept(request, from: session, inReplyTo: sequence, now: now)
        case .checkpoint(let report): accept(report, from: session, inReplyTo: sequence, now: now)
        case .complete(let complete): accept(complete, from: session, inReplyTo: sequence, now: now)
        case .fail(let fail): accept(fail, from: session, inReplyTo: sequence, now: now)
        case .clientHello: send(.welcome(welcome), to: session, inReplyTo: sequence)
        case .submit(let submit): accept(submit, from: session, inReplyTo: sequence, now: now)
        case .query(let query): answer(query, from: session, inReplyTo: sequence, now: now)
        case .watch(let watch): accept(watch, from: session, inReplyTo: sequence, now: now)
        case .cancel(let job): cancel(job, from: session, inReplyTo: sequence, now: now)
        case .drain(let drain): accept(drain, from: session, inReplyTo: sequence)
        case .deadQuery(let query): answer(query, from: session, inReplyTo: sequence)
        case .deadRetry(let retry): accept(retry, from: session, inReplyTo: sequence, now: now)
        case .previewWatch(let job): watchPreviews(of: job, from: session, inReplyTo: sequence, now: now)
        case .preview(let preview): show(preview, from: session, now: now)
        case .clusterQuery: send(.cluster(clusterStatus(now)), to: session, inReplyTo: sequence)
        case .error: break
        default:
            let problem = ErrorReply(code: "unexpected", message: "the broker does not take this kind of message")
            send(.error(problem), to: session, inReplyTo: sequence)
        }
    }

    /// Names blobs found in the store at start. Those that no record refers to are removed later: a worker that stored
    /// one before the restart may be about to refer to it, a client may be about to submit.
    package mutating func noteStored(_ digests: [Digest], now: Instant) {
        for digest in digests where !records.refers(to: digest) {
            orphans[digest] = now.milliseconds + configuration.leftoverMilliseconds
        }
    }

    /// Whoever brought the blob may be about to refer to it. If nobody does, it is removed later.
    private mutating func keep(_ digest: Digest, now: Instant) {
        guard !records.refers(to: digest) else { return }
        orphans[digest] = max(orphans[digest] ?? 0, now.milliseconds + configuration.leftoverMilliseconds)
    }
}

// Dictionaries have no order; whatever leaves the machine must have one, so that a seed replays exactly.
func inOrder(_ left: SessionID, _ right: SessionID) -> Bool { left < right }
func inOrder(_ left: TaskID, _ right: TaskID) -> Bool { (left.job, left.name) < (right.job, right.name) }
