import Wire
import Work

/// What has happened, from the entries on disk and the messages that left, kept without the code under test.
struct History {
    struct Task {
        var specification: TaskSpecification
        /// Fence of the lease that is open; 0 = none.
        var open: UInt64 = 0
        var fence: UInt64 = 0
        var session: SessionID?
        var isDone = false
        var step: UInt32 = 0
        var attempts: UInt32 = 0
        var crashes: UInt32 = 0
        var failures: UInt32 = 0
        var grants = 0
        /// Leases handed back, and asked back for a more urgent task.
        var yields = 0
        var grantedAt: UInt64 = 0
        var worker = ""
        /// Names of workers that it took down, and of those that should not get it again.
        var crashed: Set<String> = []
        var excluded: Set<String> = []
        /// When it last ended in a way that makes it wait.
        var backedOffAt: UInt64?

        var isQuarantined: Bool { crashed.count >= 2 }
    }

    struct Job {
        var plan: Int
        var body: Int
        var key: SubmissionKey
        var requestDigest: Digest
        var priority: Int32
        var tasks: [Task]
        var end: JobState?
        var code = ""
        /// Milliseconds from acceptance on; 0 = no matter when.
        var deadline: UInt64 = 0
        var acceptedAt: UInt64 = 0
        /// Whether it ended for the want of what its client had uploaded.
        var lacksUpload = false
        var isForgotten = false

        func index(of name: String) -> Int? { tasks.firstIndex { $0.specification.name == name } }
    }

    var violations: [Violation] = []
    var jobs: [String: Job] = [:]
    var unfinished = 0
    var grants = 0
    var losses = 0
    var completions = 0
    var keys: [SubmissionKey: String] = [:]
    var lastFence: UInt64 = 0
    var completed: Set<UInt64> = []
    /// The last step that was on disk under each fence.
    var checkpointed: [UInt64: UInt32] = [:]
    var revisions: [String: UInt64] = [:]
    /// When a beat that lists the fence last came to the broker's host.
    var listedAt: [UInt64: UInt64] = [:]
    var newestBeat: [SessionID: UInt64] = [:]
    var granted: Set<UInt64> = []
    var decidedAt: [UInt64: UInt64] = [:]
    /// Sessions that the running broker has heard HELLO from, and when it last heard of them.
    var known: [SessionID: (hello: Hello, heardAt: UInt64)] = [:]
    var startedAt: UInt64 = 0
    var scheduling = SchedulingCounts()
    /// When the broker's host last began anew.
    var rebootedAt: UInt64 = 0
    /// When jobs with a deadline were accepted, by decision.
    var offeredAt: [String: UInt64] = [:]
    static let deadlineGrace: UInt64 = 5000
    var limits: (tenant: Int, all: Int) = (.max, .max)
    /// Unfinished jobs of each tenant.
    var unfinishedOf: [String: Int] = [:]
    /// Jobs that ended in the present turn.
    var endedNow: [String] = []
    /// Fences that each task was asked to give back in this run of the broker.
    var preempted: [TaskID: Set<UInt64>] = [:]
    /// Whether tenants' shares are compared, and compute time that each was given.
    var judgesFairness = false
    var served: [String: Double] = [:]
    var longestLease: UInt64 = 1000
    let leaseMilliseconds: UInt64
    var now: UInt64 = 0

    init(leaseMilliseconds: UInt64) { self.leaseMilliseconds = leaseMilliseconds }

    var endStates: [JobState] { jobs.values.compactMap(\.end) }

    mutating func violate(_ invariant: Invariant, _ detail: @autoclosure () -> String) {
        guard violations.count < 8 else { return }
        violations.append(Violation(invariant: invariant, at: now, detail: detail()))
    }

    mutating func expect(_ isTrue: Bool, _ invariant: Invariant, _ detail: @autoclosure () -> String) {
        if !isTrue { violate(invariant, detail()) }
    }

    func isOpen(_ lease: Lease) -> Bool {
        guard let job = jobs[lease.task.job], let index = job.index(of: lease.task.name) else { return false }
        return job.tasks[index].open == lease.fence
    }

    // MARK: Entries on disk

    /// - Parameter plans: what the clients want, to tell whose job it is.
    mutating func apply(_ entry: LedgerEntry, plans: [JobPlan]) {
        if let end = jobs[entry.job]?.end, entry.kind != "job_forgotten" {
            violate(.oneEnd, "\(entry.kind) after \(end) of \(entry.job)")
        }
        switch entry {
        case .jobAccepted(let acceptance): accept(acceptance, plans: plans)
        case .leaseGranted(let grant): apply(grant)
        case .checkpointCommitted(let commit): apply(commit)
        case .taskCompleted(let completion): apply(completion)
        case .leaseEnded(let end): apply(end)
        case .outputsLost(let loss): apply(loss)
        case .jobEnded(let end):
            finish(end.job, end.state)
            jobs[end.job]?.code = end.code
            jobs[end.job]?.lacksUpload = end.message.hasSuffix("serves init")
        case .deadlineMoved(let move):
            let asked = jobs[move.job]?.deadline ?? 0
            expect(asked == move.deadline.milliseconds, .deadlines, "the deadline of \(move.job) becomes another one")
        case .jobForgotten(let id):
            guard let job = jobs[id] else { return }
            expect(job.end != nil, .durability, "unfinished job \(id) is forgotten")
            jobs[id]?.isForgotten = true
            if keys[job.key] == id { keys[job.key] = nil }
        }
    }

    private mutating func accept(_ acceptance: JobAcceptance, plans: [JobPlan]) {
        let key = acceptance.key
        expect(keys[key] == nil, .oneJobPerKey, "\(acceptance.job) is a second job for key \(key.key)")
        expect(jobs[acceptance.job] == nil, .oneJobPerKey, "job name \(acceptance.job) is given twice")
        guard let plan = plans.firstIndex(where: { $0.submit.idempotencyKey == key.key }) else {
            return violate(.oneJobPerKey, "nobody asked for key \(key.key)")
        }
        expect(acceptance.tasks == plans[plan].submit.tasks, .rightBytes, "\(acceptance.job) is another request")
        admit(key.tenant)
        keys[key] = acceptance.job
        var job = Job(
            plan: plan, body: plans[plan].body, key: key, requestDigest: acceptance.requestDigest,
            priority: acceptance.priority, tasks: acceptance.tasks.map { Task(specification: $0) })
        expect(acceptance.retryOf == plans[plan].retries, .retries, "\(acceptance.job) goes on from another job")
        if let dead = acceptance.retryOf { takeOver(acceptance.carried ?? [], of: dead, into: &job) }
        job.deadline = acceptance.deadline?.milliseconds ?? 0
        job.acceptedAt = offeredAt[acceptance.job] ?? now
        let wanted = acceptance.retryOf == nil ? plans[plan].submit.deadlineMilliseconds : 0
        expect(job.deadline == wanted || wanted == 0, .deadlines, "\(acceptance.job) is wanted after \(wanted) ms")
        jobs[acceptance.job] = job
        unfinished += 1
    }

    private mutating func apply(_ grant: LeaseGrant) {
        let lease = grant.lease
        guard let index = jobs[lease.task.job]?.index(of: lease.task.name),
            var task = jobs[lease.task.job]?.tasks[index]
        else { return violate(.durability, "\(lease.task) is leased, but not on record") }
        let before = lastFence
        expect(lease.fence > before, .risingFences, "fence \(lease.fence) after \(before)")
        expect(task.open == 0, .oneHolder, "\(lease.task) is leased as \(lease.fence), still open as \(task.open)")
        expect(!task.isDone, .oneEffect, "\(lease.task) is leased again after its result")
        if let worker = known[grant.session] {
            let isFit = worker.hello.capabilities.contains {
                $0.stage == task.specification.stage && $0.model == task.specification.model
            }
            expect(isFit, .fitness, "\(lease.task) goes to \(grant.worker), which cannot do it")
        }
        checkOrder(of: grant, task)
        lastFence = max(lastFence, lease.fence)
        task.open = lease.fence
        task.fence = lease.fence
        task.session = grant.session
        task.attempts += 1
        task.grants += 1
        task.grantedAt = now
        task.worker = grant.worker
        grants += 1
        granted.insert(lease.fence)
        jobs[lease.task.job]?.tasks[index] = task
    }

    /// The task, when the lease is its open one.
    private mutating func open(_ lease: Lease, _ what: String) -> (index: Int, task: Task)? {
        guard let index = jobs[lease.task.job]?.index(of: lease.task.name),
            let task = jobs[lease.task.job]?.tasks[index],
            task.open == lease.fence
        else {
            violate(.currentFence, "\(what) of \(lease.task) under fence \(lease.fence) counted")
            return nil
        }
        return (index, task)
    }

    private mutating func apply(_ commit: CheckpointCommit) {
        guard let (index, task) = open(commit.lease, "a checkpoint"), let body = jobs[commit.lease.task.job]?.body
        else {
            return
        }
        expect(
            commit.step > task.step, .growingCheckpoints,
            "\(commit.lease.task) has step \(commit.step) after \(task.step)")
        let expected = Content(body: body, task: index, step: Int(commit.step))
        expect(
            Content(commit.ref.digest) == expected, .rightBytes,
            "the checkpoint of \(commit.lease.task) at step \(commit.step) is not its own")
        jobs[commit.lease.task.job]?.tasks[index].step = commit.step
        checkpointed[commit.lease.fence] = commit.step
    }

    private mutating func apply(_ completion: TaskCompletion) {
        let lease = completion.lease
        guard let (index, task) = open(lease, "a result"), let body = jobs[lease.task.job]?.body else { return }
        expect(!task.isDone, .oneEffect, "\(lease.task) is done twice")
        let expected = Content(body: body, task: index, step: 255)
        for output in completion.outputs {
            expect(
                Content(output.ref.digest) == expected, .rightBytes, "\(lease.task) has bytes of another computation")
        }
        completions += 1
        completed.insert(lease.fence)
        charge(task, of: lease.task.job)
        var job = jobs[lease.task.job]
        job?.tasks[index].open = 0
        job?.tasks[index].isDone = true
        job?.tasks[index].step = 0
        jobs[lease.task.job] = job
        if job?.tasks.allSatisfy(\.isDone) == true { finish(lease.task.job, .done) }
    }

    private mutating func apply(_ end: LeaseEnd) {
        guard let (index, task) = open(end.lease, "an end (\(end.reason.rawValue))") else { return }
        charge(task, of: end.lease.task.job)
        var ended = task
        ended.open = 0
        switch end.reason {
        case .expired:
            ended.crashes += 1
            ended.crashed.insert(task.worker)
        case .failed, .stalled: ended.failures += 1
        case .refused, .assignLost, .goodbye, .yielded: ended.attempts -= min(1, ended.attempts)
        default: break
        }
        switch end.reason {
        case .failed, .stalled, .refused: ended.backedOffAt = now
        case .yielded: ended.yields += 1
        default: break
        }
        if end.excludesWorker { ended.excluded.insert(task.worker) }
        jobs[end.lease.task.job]?.tasks[index] = ended
    }

    /// A turn has decided these: whatever had come to the broker's host by then counts for the leases it ends.
    mutating func checkDecision(_ entries: [LedgerEntry]) {
        for entry in entries {
            checkDeadline(entry)
            if case .leaseGranted(let grant) = entry { decidedAt[grant.lease.fence] = now }
            guard case .leaseEnded(let end) = entry, end.reason == .expired else { continue }
            let fence = end.lease.fence
            let silence = now - max(listedAt[fence, default: 0], decidedAt[fence, default: 0], startedAt)
            expect(
                silence >= leaseMilliseconds, .noSpuriousExpiry,
                "\(end.lease.task) under fence \(fence), heard of \(silence) ms ago, runs out")
        }
    }

    private mutating func apply(_ loss: OutputLoss) {
        losses += 1
        if let consumer = loss.consumer, let (index, task) = open(consumer, "a loss") {
            charge(task, of: loss.job)
            jobs[consumer.task.job]?.tasks[index].open = 0
            jobs[consumer.task.job]?.tasks[index].failures = 0
        }
        guard var job = jobs[loss.job] else { return }
        // What is lost is made again, with every producer whose volatile output was let go of.
        var queue = loss.producers
        while let name = queue.popLast() {
            guard let index = job.index(of: name), job.tasks[index].isDone else { continue }
            job.tasks[index].isDone = false
            for case .task(let producer, _) in job.tasks[index].specification.inputs.map(\.source) {
                if let above = job.index(of: producer), !job.tasks[above].specification.durableOutputs {
                    queue.append(producer)
                }
            }
        }
        jobs[loss.job] = job
    }

    private mutating func finish(_ id: String, _ state: JobState) {
        guard jobs[id]?.end == nil, jobs[id] != nil else { return }
        jobs[id]?.end = state
        unfinished -= 1
        endedNow.append(id)
        if let tenant = jobs[id]?.key.tenant { unfinishedOf[tenant, default: 1] -= 1 }
        for task in jobs[id]?.tasks ?? [] where task.open > 0 { charge(task, of: id) }
        for index in jobs[id]?.tasks.indices ?? 0..<0 { jobs[id]?.tasks[index].open = 0 }
    }

    // MARK: The broker's memory

    /// After a commit: the counters of the tasks it speaks of.
    mutating func compare(_ entries: [LedgerEntry], with records: Records, limits: (attempts: UInt32, crashes: UInt32))
    {
        for entry in entries {
            guard let name = entry.taskName, let job = jobs[entry.job], let index = job.index(of: name),
                let record = records.jobs[entry.job]?.task(name)
            else { continue }
            let mine = job.tasks[index]
            expect(
                mine.attempts == record.attempts && mine.crashes == record.crashes && mine.failures == record.failures,
                .counters,
                "\(entry.job)/\(name) has \(record.attempts) attempts, \(record.crashes) crashes and \(record.failures) "
                    + "failures; its entries say \(mine.attempts), \(mine.crashes) and \(mine.failures)")
            expect(
                mine.attempts <= limits.attempts && mine.crashes <= limits.crashes, .counters,
                "\(entry.job)/\(name) goes on after \(mine.attempts) attempts and \(mine.crashes) crashes")
        }
    }

    /// What a broker reads from disk at its start.
    mutating func compare(withLedger records: Records) {
        startedAt = now
        preempted = [:]
        known = [:]
        newestBeat = [:]
        let before = lastFence
        expect(records.lastFence >= before, .durability, "fence \(before) became \(records.lastFence)")
        for (id, job) in jobs where !job.isForgotten {
            guard let record = records.jobs[id] else {
                violate(.durability, "job \(id) is gone")
                continue
            }
            let end = record.state.isTerminal ? record.state : nil
            expect(
                end == job.end, .durability, "job \(id) was \(job.end.map { "\($0)" } ?? "open"), is \(record.state)")
            for (mine, other) in zip(job.tasks, record.tasks) {
                let place = "\(id)/\(mine.specification.name)"
                expect(
                    mine.isDone == (other.state == .done), .durability,
                    "\(place) was \(mine.isDone ? "" : "not ")done, is \(other.state)")
                expect(mine.fence == other.fence, .durability, "\(place) had fence \(mine.fence), has \(other.fence)")
            }
        }
    }

    // MARK: Messages

    /// A message leaves the broker.
    mutating func checkPromise(_ message: Message) {
        switch message {
        case .accepted(let accepted):
            expect(jobs[accepted.job] != nil, .commitBeforeSend, "ACCEPTED \(accepted.job) is not on disk")
        case .assign(let assign):
            expect(
                granted.contains(assign.lease.fence), .commitBeforeSend, "ASSIGN \(assign.lease.fence) is not on disk")
            checkStart(assign)
        case .revoke(let revoke): if revoke.yields { checkPreemption(revoke) }
        case .deadPage(let page): check(page)
        case .committed(let lease):
            expect(completed.contains(lease.fence), .commitBeforeSend, "COMMITTED \(lease.fence) is not on disk")
        case .checkpointCommitted(let lease, let step):
            let index = jobs[lease.task.job]?.index(of: lease.task.name)
            let known = index.flatMap { jobs[lease.task.job]?.tasks[$0] }
            // A result, and a loss of it in the same turn, may have come since.
            let isOnDisk =
                checkpointed[lease.fence, default: 0] >= step
                || known.map { $0.step >= step || $0.isDone || $0.fence != lease.fence } ?? false
            expect(
                isOnDisk || jobs[lease.task.job]?.end != nil, .commitBeforeSend,
                "CHECKPOINT_COMMITTED \(step) of \(lease.task) is not on disk")
        case .cancelOutcome(let outcome):
            let end = jobs[outcome.job]?.end
            expect(
                end == outcome.state, .commitBeforeSend,
                "a client is told \(outcome.state) of \(outcome.job), disk says \(Self.describe(end))")
        case .event(let status): check(status)
        case .status(let page): for status in page.jobs { check(status) }
        default: break
        }
    }

    private static func describe(_ end: JobState?) -> String { end.map { "\($0)" } ?? "nothing" }

    private mutating func check(_ status: JobStatus) {
        if status.state.isTerminal {
            let end = jobs[status.job]?.end
            expect(
                end == status.state, .truth,
                "a client is told \(status.state) of \(status.job), disk says \(Self.describe(end))")
        }
        let before = revisions[status.job, default: 0]
        expect(status.revision >= before, .truth, "revision \(status.revision) of \(status.job) after \(before)")
        revisions[status.job] = status.revision
    }

    /// A message reaches the broker's host, whether or not the broker has time for it.
    mutating func note(arrivalOf envelope: Envelope) {
        switch envelope.message {
        case .hello(let hello): known[envelope.session] = (hello, now)
        case .beat(let beat):
            // A worker that was silent for a lease is a stranger until it says HELLO again.
            guard let worker = known[envelope.session], now < worker.heardAt + leaseMilliseconds else { return }
            known[envelope.session]?.heardAt = now
            guard envelope.sequence > newestBeat[envelope.session, default: 0] else { return }
            newestBeat[envelope.session] = envelope.sequence
            for running in beat.running { listedAt[running.fence] = now }
        case .goodbye: known[envelope.session] = nil
        default: break
        }
    }
}

extension LedgerEntry {
    /// The task that the entry is about, if it is about one.
    var taskName: String? {
        switch self {
        case .leaseGranted(let entry): entry.lease.task.name
        case .checkpointCommitted(let entry): entry.lease.task.name
        case .taskCompleted(let entry): entry.lease.task.name
        case .leaseEnded(let entry): entry.lease.task.name
        default: nil
        }
    }
}
