import Wire

// Who looks at previews of running tasks, and how those get there. Nothing of it is durable: a watcher says again and
// again that it still looks, a beat's answer tells the worker, and a preview that is lost is not missed.
extension BrokerState {
    /// How long a PREVIEW_WATCH holds; clients repeat it every five seconds.
    static var previewWatchMilliseconds: UInt64 { 12_000 }

    mutating func watchPreviews(of job: String, from session: SessionID, inReplyTo sequence: UInt64, now: Instant) {
        guard let record = records.jobs[job] else {
            sendNotFound(job, to: session, inReplyTo: sequence)
            return
        }
        guard !record.state.isTerminal else { return }
        previewWatchers[job, default: [:]][session] = now.milliseconds + Self.previewWatchMilliseconds
    }

    /// Hands a preview on to those who look, if it is of the task's current lease.
    mutating func show(_ preview: Preview, from session: SessionID, now: Instant) {
        guard isCurrent(preview.lease, of: session), let watchers = previewWatchers[preview.lease.task.job] else {
            return
        }
        for (watcher, expiry) in watchers.sorted(by: { inOrder($0.key, $1.key) }) where expiry > now.milliseconds {
            send(.preview(preview), to: watcher)
        }
    }

    /// Those of the worker's leases whose previews somebody looks at.
    func watchedLeases(of session: SessionID, now: Instant) -> [Lease] {
        guard !previewWatchers.isEmpty else { return [] }
        return currentLeases(of: session).filter { lease in
            previewWatchers[lease.task.job]?.values.contains { $0 > now.milliseconds } ?? false
        }
    }

    mutating func forgetPreviewWatchers(_ now: Instant) {
        for (job, watchers) in previewWatchers {
            let left = records.unfinished.contains(job) ? watchers.filter { $0.value > now.milliseconds } : [:]
            previewWatchers[job] = left.isEmpty ? nil : left
        }
    }

    /// How the tasks that `task` builds on were computed, itself left out, in the order of the job.
    func origins(of task: TaskRecord, in job: JobRecord) -> [TaskOrigin] {
        var wanted = Set(task.producers)
        var queue = task.producers
        while let name = queue.popLast() {
            for producer in job.task(name)?.producers ?? [] where wanted.insert(producer).inserted {
                queue.append(producer)
            }
        }
        let earlier = job.tasks.filter { wanted.contains($0.specification.name) && !$0.numerics.isEmpty }
        return earlier.prefix(Limits.originsPerTask).map {
            TaskOrigin(
                task: $0.specification.name, numerics: $0.numerics, isMixed: $0.isResumedElsewhere,
                manner: $0.manner ?? "")
        }
    }
}
