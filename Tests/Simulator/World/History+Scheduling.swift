import Wire
import Work

// Who is admitted, whose turn it is, and who makes room, judged from what is on disk.
extension History {
    // MARK: Admission

    mutating func beginTurn() { endedNow = [] }

    mutating func admit(_ tenant: String) {
        let count = unfinishedOf[tenant, default: 0], all = unfinished
        expect(count < limits.tenant, .admission, "a job of \(tenant) is accepted, which has \(count) already")
        expect(all < limits.all, .admission, "a job is accepted beside \(all) others")
        // Whoever comes anew begins even with the others: time does not save up.
        let others = unfinishedOf.filter { $0.key != tenant && $0.value > 0 }.keys.map { served[$0, default: 0] }
        if count == 0, let least = others.min() { served[tenant] = max(served[tenant, default: 0], least) }
        unfinishedOf[tenant] = count + 1
    }

    /// A refusal leaves the broker.
    mutating func checkRefusal(_ error: ErrorReply, of tenant: String) {
        // What ended in this very turn may have ended after the refusal was decided.
        let ended = endedNow.count { jobs[$0]?.key.tenant == tenant }
        switch error.code {
        case "quota":
            let count = unfinishedOf[tenant, default: 0] + ended
            expect(count >= limits.tenant, .admission, "\(tenant) is refused with only \(count) jobs")
        case "overloaded":
            let count = unfinished + endedNow.count
            expect(count >= limits.all, .admission, "a job is refused beside only \(count) others")
        default: return
        }
        scheduling.refusals += 1
        expect(error.retryAfterMilliseconds > 0, .admission, "\(error.code) does not say when to come again")
    }

    // MARK: The order

    /// A slot is given: nobody may have been passed over.
    mutating func checkOrder(of grant: LeaseGrant, _ task: Task) {
        guard let job = jobs[grant.lease.task.job] else { return }
        checkQuarantine(of: grant, task)
        guard let worker = known[grant.session]?.hello else { return }
        let decided = decidedAt[grant.lease.fence] ?? now
        for (id, other) in jobs where other.end == nil && id != grant.lease.task.job {
            let isAnotherTenant = judgesFairness && other.priority == job.priority && other.key.tenant != job.key.tenant
            guard other.priority > job.priority || isAnotherTenant else {
                if other.priority < job.priority, other.tasks.contains(where: { isReady($0, in: other) }) {
                    scheduling.precedences += 1
                }
                continue
            }
            for waiting in other.tasks where couldRun(waiting, of: other, on: worker, at: decided) {
                if isAnotherTenant {
                    checkShare(of: job.key.tenant, before: other.key.tenant, grant)
                } else {
                    violate(
                        .priorities,
                        "\(grant.lease.task) of priority \(job.priority) passes \(id)/\(waiting.specification.name) of "
                            + "\(other.priority) on \(grant.worker)")
                }
            }
        }
    }

    private func isReady(_ task: Task, in job: Job) -> Bool {
        guard !task.isDone, task.open == 0 else { return false }
        return task.specification.inputs.allSatisfy { input in
            guard case .task(let name, _) = input.source else { return true }
            return job.tasks.contains { $0.specification.name == name && $0.isDone }
        }
    }

    /// Whether nothing at all keeps a task from that worker. In doubt, no.
    private func couldRun(_ task: Task, of job: Job, on worker: Hello, at decided: UInt64) -> Bool {
        guard isReady(task, in: job), !task.isQuarantined, !task.excluded.contains(worker.worker),
            worker.capabilities.contains(where: {
                $0.stage == task.specification.stage && $0.model == task.specification.model
            }),
            task.backedOffAt.map({ $0 + 4000 < decided }) ?? true
        else { return false }
        // The stage that reads its outputs may have enough to do.
        let next = job.tasks.first { other in
            other.specification.stage != task.specification.stage
                && other.specification.inputs.contains {
                    if case .task(task.specification.name, _) = $0.source { true } else { false }
                }
        }
        guard task.step == 0, let stage = next?.specification.stage else { return true }
        let backlog = jobs.values.filter { $0.end == nil && $0.priority >= job.priority }.reduce(0) { sum, other in
            sum + other.tasks.count { !$0.isDone && $0.specification.stage == stage }
        }
        return backlog <= 4
    }

    // MARK: Shares

    private func servedNow(_ tenant: String) -> (milliseconds: Double, running: Int) {
        var result = (milliseconds: served[tenant, default: 0], running: 0)
        for job in jobs.values where job.end == nil && job.key.tenant == tenant {
            for task in job.tasks where task.open > 0 {
                result.milliseconds += Double(now - task.grantedAt)
                result.running += 1
            }
        }
        return result
    }

    /// What is under way counts with what it is expected to take, which this judge does not know: a task's time for each.
    private mutating func checkShare(of tenant: String, before other: String, _ grant: LeaseGrant) {
        scheduling.shares += 1
        let mine = servedNow(tenant), theirs = servedNow(other)
        let slack = Double(longestLease) * Double(mine.running + theirs.running + 3)
        expect(
            mine.milliseconds <= theirs.milliseconds + slack, .fairness,
            "\(grant.lease.task) goes before \(other), which was given \(Int(theirs.milliseconds)) ms; \(tenant) had "
                + "\(Int(mine.milliseconds)) ms")
    }

    /// A lease is over.
    mutating func charge(_ task: Task, of job: String) {
        guard let tenant = jobs[job]?.key.tenant else { return }
        served[tenant, default: 0] += Double(now - task.grantedAt)
        longestLease = max(longestLease, now - task.grantedAt)
    }

    // MARK: Quarantine

    private mutating func checkQuarantine(of grant: LeaseGrant, _ task: Task) {
        if task.isQuarantined { scheduling.quarantines += 1 }
        for (id, job) in jobs where job.end == nil {
            for other in job.tasks where other.open > 0 {
                if other.session == grant.session {
                    expect(
                        !task.isQuarantined && !other.isQuarantined, .quarantine,
                        "\(grant.lease.task) comes to \(grant.worker) beside \(id)/\(other.specification.name)")
                } else if task.isQuarantined, other.isQuarantined {
                    expect(
                        other.specification.stage != task.specification.stage, .quarantine,
                        "\(grant.lease.task) and \(id)/\(other.specification.name) run alone at the same time")
                }
            }
        }
    }

    // MARK: Making room

    /// A lease is wanted back.
    mutating func checkPreemption(_ revoke: Revoke) {
        let id = revoke.lease.task
        guard revoke.reason == "preempted", isOpen(revoke.lease), let job = jobs[id.job],
            preempted[id, default: []].insert(revoke.lease.fence).inserted
        else { return }
        scheduling.preemptions += 1
        expect(preempted[id, default: []].count <= 3, .preemption, "\(id) makes room again and again")
        let isUrgent = jobs.values.contains { other in
            other.end == nil && other.priority > job.priority && other.tasks.contains { isReady($0, in: other) }
        }
        expect(isUrgent, .preemption, "\(id) makes room for nobody")
    }

    /// A task begins, for the first time or again.
    mutating func checkStart(_ assign: Assign) {
        let id = assign.lease.task
        guard isOpen(assign.lease), let job = jobs[id.job], let index = job.index(of: id.name) else { return }
        let task = job.tasks[index]
        expect(
            assign.checkpointStep == task.step, .preemption,
            "\(id) starts from step \(assign.checkpointStep), its checkpoint is of step \(task.step)")
        expect(
            assign.attempt == task.attempts, .counters,
            "\(id) starts as attempt \(assign.attempt), its entries say \(task.attempts)")
        if let checkpoint = assign.checkpoint {
            let expected = Content(body: job.body, task: index, step: Int(task.step))
            expect(Content(checkpoint.digest) == expected, .rightBytes, "\(id) starts from another checkpoint")
        }
    }

    // MARK: Deadlines

    /// A broker whose host began anew has only a wall clock, which may say anything: then a job keeps a grace.
    mutating func checkDeadline(_ entry: LedgerEntry) {
        switch entry {
        case .jobAccepted(let acceptance): if acceptance.deadline != nil { offeredAt[acceptance.job] = now }
        case .jobEnded(let end):
            guard end.code == "deadline_exceeded", let job = jobs[end.job], job.end == nil else { return }
            scheduling.deadlines += 1
            let isSameRun = rebootedAt <= job.acceptedAt
            let since = now - max(job.acceptedAt, rebootedAt)
            let least = isSameRun ? job.deadline : min(job.deadline, Self.deadlineGrace)
            let isLate = job.deadline > 0 && since >= least
            expect(isLate, .deadlines, "\(end.job) ends after \(since) ms, its deadline is in \(least)")
        case .leaseGranted(let grant):
            // The tick that ends the job comes last in a turn, and a frozen or waiting broker has turns late.
            guard let job = jobs[grant.lease.task.job], job.deadline > 0 else { return }
            let since = now - max(job.acceptedAt, rebootedAt)
            expect(since <= job.deadline + 25_000, .deadlines, "\(grant.lease.task) is leased long after its deadline")
        default: return
        }
    }
}
