import Failure
import Wire

// What gateways and the command line ask for.
extension BrokerState {
    mutating func accept(_ submit: Submit, from session: SessionID, inReplyTo sequence: UInt64, now: Instant) {
        let key = SubmissionKey(tenant: submit.tenant, key: submit.idempotencyKey)
        if submit.replayOnly, key.key.isEmpty || records.keys[key] == nil {
            let problem = "no job has the idempotency key \(key.key)"
            sendError("idempotency_key_unknown", problem, to: session, inReplyTo: sequence)
            return
        }
        let offer = JobOffer(
            key: key, requestDigest: submit.requestDigest, priority: submit.priority,
            specification: submit.specification, tasks: submit.tasks,
            deadlineMilliseconds: submit.deadlineMilliseconds)
        take(offer, from: session, inReplyTo: sequence, now: now)
    }

    mutating func cancel(_ id: String, from session: SessionID, inReplyTo sequence: UInt64, now: Instant) {
        guard let job = records.jobs[id] else {
            sendNotFound(id, to: session, inReplyTo: sequence)
            return
        }
        if !job.state.isTerminal {
            if let readOnlyReason {
                sendError(
                    readOnlyReason.code, readOnlyReason.message, to: session, inReplyTo: sequence, retryAfter: 5000)
                return
            }
            endJob(id, .cancelled, task: nil, code: "cancelled", message: "cancelled on request", now: now)
        }
        let state = records.jobs[id]?.state ?? .cancelled
        send(.cancelOutcome(CancelOutcome(job: id, state: state)), to: session, inReplyTo: sequence)
    }

    mutating func accept(_ watch: Watch, from session: SessionID, inReplyTo sequence: UInt64, now: Instant) {
        guard let job = records.jobs[watch.job] else {
            sendNotFound(watch.job, to: session, inReplyTo: sequence)
            return
        }
        prepareForecast(now)
        send(.event(status(of: job, now: now)), to: session, inReplyTo: sequence)
        if !job.state.isTerminal { watchers[watch.job, default: []].insert(session) }
    }

    mutating func answer(_ query: Query, from session: SessionID, inReplyTo sequence: UInt64, now: Instant) {
        prepareForecast(now)
        guard query.job.isEmpty else {
            guard let job = records.jobs[query.job] else {
                sendNotFound(query.job, to: session, inReplyTo: sequence)
                return
            }
            send(
                .status(StatusPage(jobs: [status(of: job, now: now)], hasMore: false)), to: session, inReplyTo: sequence
            )
            return
        }
        var end = records.order.endIndex
        if !query.before.isEmpty {
            guard let place = records.order.lastIndex(of: query.before) else {
                sendNotFound(query.before, to: session, inReplyTo: sequence)
                return
            }
            end = place
        }
        let limit = min(max(1, Int(query.limit)), Limits.jobsPerPage)
        var page: [JobStatus] = []
        var hasMore = false
        var bytes = 0
        for id in records.order[..<end].reversed() {
            guard let job = records.jobs[id], isWanted(job, before: query.beforeUnixMilliseconds) else { continue }
            let status = status(of: job, now: now)
            bytes += status.approximateBytes
            guard page.isEmpty || (page.count < limit && bytes <= Self.pageBytes) else {
                hasMore = true
                break
            }
            page.append(status)
        }
        send(.status(StatusPage(jobs: page, hasMore: hasMore)), to: session, inReplyTo: sequence)
    }

    /// Whether a page of jobs accepted before `limit` (0 = any time) shows this one.
    func isWanted(_ job: JobRecord, before limit: UInt64) -> Bool { limit == 0 || job.createdUnixMilliseconds < limit }

    mutating func sendNotFound(_ job: String, to session: SessionID, inReplyTo sequence: UInt64) {
        sendError("job_not_found", "there is no job \(job)", to: session, inReplyTo: sequence)
    }

    mutating func clusterStatus(_ now: Instant) -> ClusterStatus {
        prepareForecast(now)
        var busy: [SessionID: UInt32] = [:]
        for clock in leases.values { busy[clock.session, default: 0] += 1 }
        var bytes = 0
        var listed: [ClusterStatus.Worker] = []
        for (session, worker) in workers.sorted(by: { $0.value.hello.worker < $1.value.hello.worker }) {
            bytes += worker.hello.worker.utf8.count + 96
            bytes += worker.hello.capabilities.reduce(0) { $0 + $1.stage.utf8.count + $1.model.utf8.count + 8 }
            guard bytes <= Self.pageBytes, listed.count < Limits.workersPerCluster else { break }
            listed.append(
                ClusterStatus.Worker(
                    worker: worker.hello.worker, capabilities: worker.hello.capabilities, slots: worker.hello.slots,
                    busy: busy[session, default: 0], millisecondsSinceBeat: now.elapsed(since: worker.lastHeardAt),
                    isDraining: worker.isDraining, fetched: worker.fetched, previews: worker.previews))
        }
        // What workers have ready comes last: no worker is left out for it.
        let ready = Dictionary(workers.values.map { ($0.hello.worker, $0.readyFor) }) { $1 }
        for place in listed.indices {
            let warm = ready[listed[place].worker, default: []].sorted().prefix(Limits.warmPerWorker)
            bytes += warm.reduce(0) { $0 + $1.utf8.count + 8 }
            guard bytes <= Self.pageBytes else { break }
            listed[place].warm = Array(warm)
        }
        let queued = index.queuedCount
        return ClusterStatus(
            workers: listed, queuedJobs: UInt32(queued), runningJobs: UInt32(records.unfinished.count - queued),
            isDraining: isDraining, cell: configuration.cell, backlogMilliseconds: backlogMilliseconds)
    }

    /// Until the last job ends, as forecast; 0 when there are none, or one that cannot be foretold.
    private var backlogMilliseconds: UInt64 {
        let ends = records.unfinished.map { forecast?.remaining[$0] }
        return ends.contains(nil) ? 0 : ends.compactMap(\.self).max() ?? 0
    }

    /// Sends an EVENT to every watcher of what changed; step progress at most once per job and interval.
    mutating func pushEvents(_ now: Instant) {
        touchQueue(now)
        let due = progressed.filter { job in
            lastPushAt[job].map { now.elapsed(since: $0) >= configuration.eventMilliseconds } ?? true
        }
        for id in changed.union(due).sorted() {
            guard let job = records.jobs[id], let sessions = watchers[id] else { continue }
            prepareForecast(now)
            let status = status(of: job, now: now)
            for session in sessions.sorted(by: inOrder) { send(.event(status), to: session) }
            lastPushAt[id] = now.milliseconds
            if job.state.isTerminal {
                watchers[id] = nil
                lastPushAt[id] = nil
            }
        }
        progressed = progressed.filter { !due.contains($0) && watchers[$0] != nil && !changed.contains($0) }
        changed = []
    }
}
