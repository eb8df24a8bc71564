import Wire

// Jobs that ended FAILED or DEAD: what killed them, and another try with what they had done.
extension BrokerState {
    mutating func answer(_ query: DeadQuery, from session: SessionID, inReplyTo sequence: UInt64) {
        guard query.job.isEmpty else {
            guard let job = deadRecord(query.job, for: session, inReplyTo: sequence) else { return }
            send(
                .deadPage(DeadPage(jobs: [deadJob(job, withIncidents: true)], hasMore: false)), to: session,
                inReplyTo: sequence)
            return
        }
        let limit = min(max(1, Int(query.limit)), Limits.jobsPerPage)
        let older = records.order.prefix { $0 != query.before }.reversed()
        var page: [DeadJob] = []
        var hasMore = false
        for id in older {
            guard let job = records.jobs[id], job.isDead, isWanted(job, before: query.beforeUnixMilliseconds) else {
                continue
            }
            guard page.count < limit else {
                hasMore = true
                break
            }
            page.append(deadJob(job, withIncidents: false))
        }
        send(.deadPage(DeadPage(jobs: page, hasMore: hasMore)), to: session, inReplyTo: sequence)
    }

    /// A retry is a job of its own, because terminal states never change. It begins with the durable outputs and the
    /// checkpoint of the dead one, with counters at 0 and without a deadline.
    mutating func accept(_ retry: DeadRetry, from session: SessionID, inReplyTo sequence: UInt64, now: Instant) {
        guard let dead = deadRecord(retry.job, for: session, inReplyTo: sequence) else { return }
        let offer = JobOffer(
            key: SubmissionKey(tenant: dead.key.tenant, key: retry.idempotencyKey), requestDigest: dead.requestDigest,
            priority: dead.priority, specification: dead.specification, tasks: dead.tasks.map(\.specification),
            retried: dead)
        take(offer, from: session, inReplyTo: sequence, now: now)
    }

    /// The dead job of this name; where there is none, that is the answer.
    private mutating func deadRecord(
        _ job: String, for session: SessionID, inReplyTo sequence: UInt64
    ) -> JobRecord? {
        guard let record = records.jobs[job] else {
            sendNotFound(job, to: session, inReplyTo: sequence)
            return nil
        }
        if record.isDead { return record }
        let problem = "job \(job) is \(record.state): only jobs that failed or died have evidence and can be retried"
        sendError("job_not_dead", problem, to: session, inReplyTo: sequence)
        return nil
    }

    private func deadJob(_ job: JobRecord, withIncidents: Bool) -> DeadJob {
        let cause = job.endedBy.flatMap { job.task($0) }
        var dead = DeadJob(
            job: job.job, state: job.state, finishedUnixMilliseconds: job.finishedUnixMilliseconds,
            errorCode: job.errorCode, errorMessage: job.errorMessage, task: job.endedBy ?? "",
            stage: cause?.specification.stage ?? "", attempts: cause?.attempts ?? 0, crashes: cause?.crashes ?? 0,
            failures: cause?.failures ?? 0, checkpointStep: cause?.checkpointStep ?? 0,
            retriedAs: job.retriedAs ?? "", cell: configuration.cell,
            createdUnixMilliseconds: job.createdUnixMilliseconds)
        guard withIncidents else { return dead }
        let all = job.tasks.flatMap { task in
            (task.incidents ?? []).map { $0.incident(of: task.specification.name) }
        }
        let inOrder = all.sorted { $0.endedUnixMilliseconds < $1.endedUnixMilliseconds }
        dead.incidents = Array(inOrder.suffix(Limits.incidents))
        return dead
    }
}

extension JobRecord {
    /// FAILED or DEAD: ended by what happened, not by somebody's wish.
    var isDead: Bool { state == .failed || state == .dead }
}
