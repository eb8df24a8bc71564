import Failure
import Wire

// What workers report about their leases, and how leases and jobs end.
extension BrokerState {
    /// The acceptance rule.
    func isCurrent(_ lease: Lease, of session: SessionID) -> Bool {
        guard let task = records.task(of: lease) else { return false }
        return task.state == .leased && task.session == session
    }

    mutating func accept(_ report: CheckpointReport, from session: SessionID, inReplyTo sequence: UInt64, now: Instant)
    {
        guard readOnlyReason == nil else { return }
        guard isCurrent(report.lease, of: session), let task = records.task(of: report.lease) else {
            send(.leaseLost(report.lease), to: session, inReplyTo: sequence)
            return
        }
        if report.step > task.checkpointStep {
            commit(
                .checkpointCommitted(CheckpointCommit(lease: report.lease, step: report.step, ref: report.ref)),
                now: now)
        }
        let committed = max(report.step, task.checkpointStep)
        leases[report.lease.task]?.expiresAt = now.milliseconds + configuration.leaseMilliseconds
        send(.checkpointCommitted(lease: report.lease, step: committed), to: session, inReplyTo: sequence)
    }

    mutating func accept(_ complete: Complete, from session: SessionID, inReplyTo sequence: UInt64, now: Instant) {
        let lease = complete.lease
        if let task = records.task(of: lease), task.state == .done, task.session == session {
            send(.committed(lease), to: session, inReplyTo: sequence)
            return
        }
        guard readOnlyReason == nil else { return }
        guard isCurrent(lease, of: session), let job = records.jobs[lease.task.job] else {
            send(.leaseLost(lease), to: session, inReplyTo: sequence)
            return
        }
        if let missing = missingOutput(in: complete, job: job) {
            let problem = "task \(lease.task.name) did not deliver its output \(missing)"
            send(.leaseLost(lease), to: session, inReplyTo: sequence)
            endJob(job.job, .failed, task: lease.task.name, code: "output_missing", message: problem, now: now)
            return
        }
        let cost = costs[lease.task]
        closeLease(lease.task, now: now)
        let completion = TaskCompletion(
            lease: lease, outputs: complete.outputs, elapsedMilliseconds: complete.elapsedMilliseconds,
            notes: Array(complete.notes.prefix(Limits.notes)), unixMilliseconds: now.unixMilliseconds,
            manner: complete.manner.isEmpty ? nil : complete.manner)
        commit(.taskCompleted(completion), now: now)
        if let cost {
            durations.learn(cost, milliseconds: complete.elapsedMilliseconds)
            workers[session]?.warm.insert(cost.workload)
        }
        notBefore[lease.task] = nil
        refusals[lease.task] = nil
        if let job = records.jobs[job.job], job.state.isTerminal { forgetVolatileState(of: job) }
        send(.committed(lease), to: session, inReplyTo: sequence)
    }

    /// An output that a later task reads and this result lacks.
    private func missingOutput(in complete: Complete, job: JobRecord) -> String? {
        let delivered = Set(complete.outputs.map(\.name))
        for task in job.tasks {
            for case .task(let producer, let output) in task.specification.inputs.map(\.source)
            where producer == complete.lease.task.name && !delivered.contains(output) {
                return output
            }
        }
        return nil
    }

    mutating func accept(_ refuse: Refuse, from session: SessionID, now: Instant) {
        if refuse.code == "yielded" {
            takeBack(refuse.lease, from: session, now: now)
            return
        }
        // Only the next beat says when the worker has room again.
        workers[session]?.freeSlots = 0
        guard readOnlyReason == nil, isCurrent(refuse.lease, of: session) else { return }
        refusals[refuse.lease.task, default: 0] += 1
        release(
            refuse.lease, reason: .refused, code: refuse.code, message: "the worker refused (\(refuse.code))",
            excludesWorker: refuse.code == "unfit", now: now)
    }

    /// The answer to FAIL is LEASE_LOST: the lease is over whatever the broker made of it.
    mutating func accept(_ fail: Fail, from session: SessionID, inReplyTo sequence: UInt64, now: Instant) {
        guard readOnlyReason == nil else { return }
        send(.leaseLost(fail.lease), to: session, inReplyTo: sequence)
        guard isCurrent(fail.lease, of: session), let job = records.jobs[fail.lease.task.job] else { return }
        if !fail.missingInputs.isEmpty, retryProducers(of: fail, in: job, now: now) { return }
        let name = fail.lease.task.name
        guard fail.retry != .never else {
            endJob(
                job.job, .failed, task: name, code: fail.code, message: fail.message, retry: .never, now: now)
            return
        }
        release(
            fail.lease, reason: .failed, code: fail.code, message: "\(fail.code): \(fail.message)",
            excludesWorker: fail.retry != .sameWorker, retry: fail.retry, now: now)
    }

    /// Missing inputs are the producers' matter. Outputs in a worker's memory died with it: make them again at once.
    /// Outputs in the durable store are more likely out of reach than gone, and dear (a whole denoise): the consumer
    /// tries elsewhere first and only its last retry makes them again.
    /// - Returns: false when the failure is an ordinary one after all.
    private mutating func retryProducers(of fail: Fail, in job: JobRecord, now: Instant) -> Bool {
        guard let task = records.task(of: fail.lease) else { return false }
        let missing = Set(fail.missingInputs)
        var producers: [String] = []
        for input in task.specification.inputs where missing.contains(input.name) {
            if case .task(let name, _) = input.source, !producers.contains(name) { producers.append(name) }
        }
        let areAllVolatile = producers.allSatisfy { job.task($0)?.specification.durableOutputs == false }
        guard !producers.isEmpty, areAllVolatile || task.failures + 1 >= configuration.failureLimit else {
            return false
        }
        if task.attempts >= configuration.attemptLimit {
            endJob(
                job.job, .dead, task: fail.lease.task.name, code: "attempts_exhausted", message: exhausted(task),
                now: now)
            return true
        }
        leases[fail.lease.task] = nil
        // What else was in the memory of workers that are gone is made again in the same round.
        for name in Set(task.producers).subtracting(producers).sorted() {
            guard let other = job.task(name), other.state == .done, !other.specification.durableOutputs,
                let session = other.session, workers[session] == nil
            else { continue }
            producers.append(name)
        }
        commit(.outputsLost(OutputLoss(job: job.job, producers: producers, consumer: fail.lease)), now: now)
        return true
    }

    // MARK: Ends

    /// Ends a lease without a result and decides whether the task may go on.
    mutating func release(
        _ lease: Lease, reason: LeaseEnd.Reason, code: String, message: String, excludesWorker: Bool,
        retry: Failure.Retry? = nil, processEnd: String? = nil, now: Instant
    ) {
        let evidence = evidence(of: lease.task, retry: retry, processEnd: processEnd, now: now)
        closeLease(lease.task, now: now)
        let end = LeaseEnd(
            lease: lease, reason: reason, code: code, message: message, excludesWorker: excludesWorker,
            evidence: evidence)
        commit(.leaseEnded(end), now: now)
        guard let task = records.task(of: lease) else { return }
        let name = lease.task.name
        if task.crashes >= configuration.crashLimit {
            let problem = "task \(name) lost its worker \(task.crashes) times, last \(task.lastProblem)"
            endJob(lease.task.job, .dead, task: name, code: "worker_lost", message: problem, now: now)
        } else if let failureClass = end.failureClass,
            task.failures(of: failureClass) >= configuration.failureLimit,
            retry != .biggerWorker || !hasUntriedWorker(task)
        {
            let problem = "task \(name) failed \(task.failures) times, last on \(task.lastProblem)"
            endJob(lease.task.job, .failed, task: name, code: code, message: problem, now: now)
        } else if task.attempts >= configuration.attemptLimit {
            endJob(lease.task.job, .dead, task: name, code: "attempts_exhausted", message: exhausted(task), now: now)
        } else {
            notBefore[lease.task] = now.milliseconds + backoff(task, reason: reason, id: lease.task)
        }
    }

    /// Whether somebody is connected who has not failed the task yet: several that were too small say nothing about one
    /// that may be big enough.
    private func hasUntriedWorker(_ task: TaskRecord) -> Bool {
        workers.values.contains {
            $0.hello.serves(task.specification) && !task.excludedWorkers.contains($0.hello.worker)
        }
    }

    /// What the lease's clock and the caller know at its end.
    private func evidence(
        of task: TaskID, retry: Failure.Retry?, processEnd: String? = nil, now: Instant
    ) -> LeaseEvidence {
        LeaseEvidence(
            step: leases[task]?.step ?? 0, unixMilliseconds: now.unixMilliseconds,
            retry: retry.map { "\($0)" },
            processEnd: processEnd)
    }

    private func exhausted(_ task: TaskRecord) -> String {
        "task \(task.specification.name) used up its \(task.attempts) attempts, last \(task.lastProblem)"
    }

    /// Exponential with jitter; the jitter comes from the fence, so that a replay of the same events is the same.
    private func backoff(_ task: TaskRecord, reason: LeaseEnd.Reason, id: TaskID) -> UInt64 {
        let doublings: Int
        switch reason {
        case .failed, .stalled: doublings = Int(task.failures) - 1
        case .refused: doublings = refusals[id, default: 1] - 1
        case .expired, .dropped, .assignLost, .goodbye, .yielded: return 0
        }
        let base = configuration.backoffMilliseconds << UInt64(min(max(doublings, 0), 16))
        let ceiling = max(1, min(base, configuration.maximumBackoffMilliseconds))
        var mixed = task.fence &* 0x9e37_79b9_7f4a_7c15
        mixed ^= mixed >> 29
        return ceiling / 2 + mixed % (ceiling / 2 + 1)
    }

    /// Ends a job in FAILED, DEAD or CANCELLED and takes back whatever of it still runs.
    mutating func endJob(
        _ id: String, _ state: JobState, task: String?, code: String, message: String, retry: Failure.Retry? = nil,
        now: Instant
    ) {
        guard let job = records.jobs[id], !job.state.isTerminal else { return }
        for running in job.tasks where running.state == .leased && running.specification.name != task {
            guard let session = running.session, let worker = workers[session] else { continue }
            // The slot is free once the stage has stopped: a beat from before the assignment does not know of it.
            if !worker.listed.contains(running.fence), worker.freeSlots > 0 { workers[session]?.freeSlots -= 1 }
            let lease = Lease(task: TaskID(job: id, name: running.specification.name), fence: running.fence)
            send(.revoke(Revoke(lease: lease, reason: state == .cancelled ? "cancelled" : "job_ended")), to: session)
        }
        let evidence = task.map { self.evidence(of: TaskID(job: id, name: $0), retry: retry, now: now) }
        for task in job.tasks { closeLease(TaskID(job: id, name: task.specification.name), now: now) }
        forgetVolatileState(of: job)
        let text = cut(message, toBytes: Limits.messageBytes)
        let end = JobEnd(
            job: id, state: state, task: task, code: code, message: text, unixMilliseconds: now.unixMilliseconds,
            evidence: evidence)
        commit(.jobEnded(end), now: now)
    }
}
