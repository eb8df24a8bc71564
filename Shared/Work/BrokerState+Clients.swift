import Failure
import Wire

// What gateways and the command line ask for.
extension BrokerState {
    mutating func accept(_ submit: Submit, from session: SessionID, inReplyTo sequence: UInt64, now: Instant) {
        let key = SubmissionKey(tenant: submit.tenant, key: submit.idempotencyKey)
        if !key.key.isEmpty, let known = records.keys[key], let job = records.jobs[known] {
            if job.requestDigest == submit.requestDigest {
                send(.accepted(Accepted(job: known, replayed: true)), to: session, inReplyTo: sequence)
            } else {
                let problem = "idempotency key \(key.key) belongs to job \(known), whose request was another one"
                sendError("key_reused_with_other_body", problem, to: session, inReplyTo: sequence)
            }
            return
        }
        if let refusal = admissionRefusal {
            let wait = refusal.code == "overloaded" ? roomMilliseconds(for: nil, now: now) : refusal.retryAfter
            sendError(refusal.code, refusal.message, to: session, inReplyTo: sequence, retryAfter: wait)
            return
        }
        if let problem = quotaProblem(of: submit.tenant) {
            let wait = roomMilliseconds(for: submit.tenant, now: now)
            sendError("quota", problem, to: session, inReplyTo: sequence, retryAfter: wait)
            return
        }
        if let problem = problem(in: submit.tasks) {
            sendError("job_malformed", problem, to: session, inReplyTo: sequence)
            return
        }
        enterShare(submit.tenant)
        let job = newJob()
        let acceptance = JobAcceptance(
            job: job, key: key, requestDigest: submit.requestDigest, priority: submit.priority,
            specification: submit.specification, tasks: submit.tasks, unixMilliseconds: now.unixMilliseconds)
        commit(.jobAccepted(acceptance), now: now)
        if let record = records.jobs[job] { learnCosts(of: record) }
        send(.accepted(Accepted(job: job, replayed: false)), to: session, inReplyTo: sequence)
    }

    /// Why no job at all is taken at present, or nil.
    var admissionRefusal: (code: String, message: String, retryAfter: UInt32)? {
        if let readOnlyReason { return (readOnlyReason.code, readOnlyReason.message, 5000) }
        if isDraining {
            return ("draining", "the broker is being drained: it finishes its jobs and takes no new ones", 10_000)
        }
        guard records.unfinished.count >= configuration.unfinishedJobLimit else { return nil }
        return ("overloaded", "\(records.unfinished.count) jobs are waiting or running", 10_000)
    }

    /// - Returns: why these tasks cannot be a job's graph, or nil.
    func problem(in tasks: [TaskSpecification]) -> String? {
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
        var bytes = 0
        for id in records.order[..<end].reversed() {
            guard let job = records.jobs[id] else { continue }
            let status = status(of: job, now: now)
            bytes += status.approximateBytes
            guard page.isEmpty || (page.count < limit && bytes <= Self.pageBytes) else { break }
            page.append(status)
        }
        let hasMore = page.count < end
        send(.status(StatusPage(jobs: page, hasMore: hasMore)), to: session, inReplyTo: sequence)
    }

    mutating func sendNotFound(_ job: String, to session: SessionID, inReplyTo sequence: UInt64) {
        sendError("job_not_found", "there is no job \(job)", to: session, inReplyTo: sequence)
    }

    func clusterStatus(_ now: Instant) -> ClusterStatus {
        var busy: [SessionID: UInt32] = [:]
        for clock in leases.values { busy[clock.session, default: 0] += 1 }
        var bytes = 0
        var listed: [ClusterStatus.Worker] = []
        for (session, worker) in workers.sorted(by: { $0.value.hello.worker < $1.value.hello.worker }) {
            bytes += worker.hello.worker.utf8.count + 32
            bytes += worker.hello.capabilities.reduce(0) { $0 + $1.stage.utf8.count + $1.model.utf8.count + 8 }
            guard bytes <= Self.pageBytes, listed.count < Limits.workersPerCluster else { break }
            listed.append(
                ClusterStatus.Worker(
                    worker: worker.hello.worker, capabilities: worker.hello.capabilities, slots: worker.hello.slots,
                    busy: busy[session, default: 0], millisecondsSinceBeat: now.elapsed(since: worker.lastHeardAt),
                    isDraining: worker.isDraining))
        }
        let queued = records.unfinished.count { records.jobs[$0]?.state == .accepted }
        return ClusterStatus(
            workers: listed, queuedJobs: UInt32(queued), runningJobs: UInt32(records.unfinished.count - queued),
            isDraining: isDraining)
    }

    /// Sends an EVENT to every watcher of what changed; step progress at most once per job and interval.
    mutating func pushEvents(_ now: Instant) {
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
