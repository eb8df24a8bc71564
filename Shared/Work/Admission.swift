import Failure
import Wire

/// A job that somebody wants, before it is decided whether it is taken.
struct JobOffer {
    var key: SubmissionKey
    var requestDigest: Digest
    var priority: Int32
    var specification: String
    var tasks: [TaskSpecification]
    /// From acceptance on; 0 = no matter when.
    var deadlineMilliseconds: UInt64 = 0
    /// The dead job that this one goes on from.
    var retried: JobRecord?

    func acceptance(as job: String, now: Instant, boot: String) -> JobAcceptance {
        var acceptance = JobAcceptance(
            job: job, key: key, requestDigest: requestDigest, priority: priority, specification: specification,
            tasks: tasks, unixMilliseconds: now.unixMilliseconds)
        acceptance.retryOf = retried?.job
        acceptance.carried = retried?.tasks.compactMap { CarriedTask($0) }
        if deadlineMilliseconds > 0 {
            acceptance.deadline = Deadline(after: deadlineMilliseconds, now: now, boot: boot)
        }
        return acceptance
    }
}

// Which jobs are taken, and when to come again with the others: new jobs and retries alike.
extension BrokerState {
    struct Refusal {
        var code: String
        var message: String
        var retryAfter: UInt32 = 0
    }

    /// Answers an offer: with the job that its key already has, with a refusal, or with a new job.
    mutating func take(_ offer: JobOffer, from session: SessionID, inReplyTo sequence: UInt64, now: Instant) {
        let key = offer.key
        if !key.key.isEmpty, let known = records.keys[key] {
            if records.jobs[known]?.requestDigest == offer.requestDigest {
                send(.accepted(Accepted(job: known, replayed: true)), to: session, inReplyTo: sequence)
            } else {
                let problem = "idempotency key \(key.key) belongs to job \(known), whose request was another one"
                sendError("key_reused_with_other_body", problem, to: session, inReplyTo: sequence)
            }
            return
        }
        if let refusal = refusal(of: offer, now: now) {
            refuse(refusal, session, inReplyTo: sequence)
            return
        }
        let acceptance = offer.acceptance(as: newJob(), now: now, boot: configuration.boot)
        var pressure = DeadlineClock.Pressure.none
        switch prospect(of: acceptance, now: now) {
        case .reachable: break
        case .unknown: pressure = .unknown
        case .unreachable(let refusal):
            refuse(refusal, session, inReplyTo: sequence)
            return
        }
        enterShare(key.tenant, now: now)
        commit(.jobAccepted(acceptance), now: now)
        if let record = records.jobs[acceptance.job] {
            learnCosts(of: record)
            startDeadline(of: record, pressure, now: now)
        }
        send(.accepted(Accepted(job: acceptance.job, replayed: false)), to: session, inReplyTo: sequence)
    }

    private mutating func refuse(_ refusal: Refusal, _ session: SessionID, inReplyTo sequence: UInt64) {
        sendError(
            refusal.code, refusal.message, to: session, inReplyTo: sequence, retryAfter: refusal.retryAfter)
    }

    /// Why the job is not taken at present, whatever its deadline, or nil.
    private mutating func refusal(of offer: JobOffer, now: Instant) -> Refusal? {
        if let readOnlyReason {
            return Refusal(code: readOnlyReason.code, message: readOnlyReason.message, retryAfter: 5000)
        }
        if isDraining {
            let message = "the broker is being drained: it finishes its jobs and takes no new ones"
            return Refusal(code: "draining", message: message, retryAfter: 10_000)
        }
        let tenant = offer.key.tenant, all = records.unfinished.count
        if all >= configuration.unfinishedJobLimit {
            return Refusal(
                code: "overloaded", message: "\(all) jobs are waiting or running",
                retryAfter: roomMilliseconds(for: nil, now: now))
        }
        let own = index.tenants[tenant, default: 0]
        if own >= configuration.tenantJobLimit {
            let message = "\(own) jobs of this tenant are waiting or running, which is as many as it may have"
            return Refusal(code: "quota", message: message, retryAfter: roomMilliseconds(for: tenant, now: now))
        }
        return problem(in: offer.tasks).map { Refusal(code: "job_malformed", message: $0) }
    }

    /// When there is likely to be room for one more: the time until the next job ends, of this tenant or of any.
    /// Ten seconds while nothing is known.
    private mutating func roomMilliseconds(for tenant: String?, now: Instant) -> UInt32 {
        prepareForecast(now)
        let soonest = tenant.map { forecast?.soonest[$0] } ?? forecast?.soonest.values.min()
        return UInt32(clamping: min(max(soonest ?? 10_000, 1000), 600_000))
    }

    /// - Returns: why these tasks cannot be a job's graph, or nil.
    private func problem(in tasks: [TaskSpecification]) -> String? {
        guard !tasks.isEmpty, tasks.count <= Limits.tasksPerJob else {
            return "a job has 1 to \(Limits.tasksPerJob) tasks, this one \(tasks.count)"
        }
        let names = Set(tasks.map(\.name))
        guard names.count == tasks.count, !names.contains("") else { return "task names must be unique and not empty" }
        for task in tasks {
            if task.name.utf8.count > Limits.nameBytes / 2 {
                return "task \(task.name) has a name of more than \(Limits.nameBytes / 2) bytes"
            }
            if task.stage.isEmpty { return "task \(task.name) names no stage" }
            for case .task(let producer, _) in task.inputs.map(\.source) where !names.contains(producer) {
                return "task \(task.name) reads from task \(producer), which the job does not have"
            }
        }
        var waiting = tasks
        var done: Set<String> = []
        while !waiting.isEmpty {
            let ready = waiting.filter { task in
                task.inputs.allSatisfy { if case .task(let name, _) = $0.source { done.contains(name) } else { true } }
            }
            guard !ready.isEmpty else {
                return "tasks \(waiting.map(\.name).joined(separator: ", ")) wait for each other"
            }
            done.formUnion(ready.map(\.name))
            waiting.removeAll { done.contains($0.name) }
        }
        return nil
    }
}
