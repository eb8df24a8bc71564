import Wire

// What clients see.
extension BrokerState {
    /// Room for statuses in one control frame, with some to spare for the envelope and the encoding.
    static let pageBytes = 48 * 1024
    private static let notesBytesPerJob = 8 * 1024

    func status(of job: JobRecord, now: Instant) -> JobStatus {
        let isOver = job.state.isTerminal
        var status = JobStatus(
            job: job.job, state: job.state, revision: revision(of: job.job),
            createdUnixMilliseconds: job.createdUnixMilliseconds,
            finishedUnixMilliseconds: job.finishedUnixMilliseconds,
            priority: job.priority, specification: job.specification,
            tasks: job.tasks.map { taskStatus(of: $0, in: job, now: now) }, outputs: durableOutputs(of: job),
            errorCode: job.errorCode, errorMessage: job.errorMessage, cell: configuration.cell)
        status.queuePosition = job.state == .accepted ? queuePosition(of: job) : 0
        status.remainingMilliseconds = isOver ? 0 : forecast?.remaining[job.job].map { max(1, $0) } ?? 0
        status.deadlineUnixMilliseconds = deadlineUnixMilliseconds(of: job, now: now)
        trimNotes(&status)
        return status
    }

    /// By the wall clock as it is now, which may have been set since; of a job that is over as it was written down.
    private func deadlineUnixMilliseconds(of job: JobRecord, now: Instant) -> UInt64 {
        guard let clock = deadlines[job.job] else { return job.deadline?.unixMilliseconds ?? 0 }
        return now.unixMilliseconds + clock.at - min(clock.at, now.milliseconds)
    }

    private func durableOutputs(of job: JobRecord) -> [NamedRef] {
        let all = job.tasks.filter { $0.state == .done && $0.specification.durableOutputs }.flatMap { task in
            task.outputs.map { NamedRef(name: "\(task.specification.name).\($0.name)", ref: $0.ref) }
        }
        // The last stages' outputs are what people come for.
        return Array(all.filter { $0.name.utf8.count <= Limits.nameBytes }.suffix(Limits.namedRefs))
    }

    /// Keeps the whole status inside one control frame whatever the stages wrote.
    private func trimNotes(_ status: inout JobStatus) {
        var left = Self.notesBytesPerJob
        for index in status.tasks.indices {
            var kept: [String] = []
            for note in status.tasks[index].notes.prefix(Limits.notes) where left > 0 {
                let text = cut(note, toBytes: min(left, Limits.messageBytes))
                left -= text.utf8.count
                kept.append(text)
            }
            status.tasks[index].notes = kept
        }
    }

    // MARK: Tasks

    private func taskStatus(of task: TaskRecord, in job: JobRecord, now: Instant) -> TaskStatus {
        let id = TaskID(job: job.job, name: task.specification.name)
        let clock = task.state == .leased ? leases[id] : nil
        var status = TaskStatus(
            name: task.specification.name, stage: task.specification.stage, state: task.state, worker: task.worker,
            attempt: task.attempts, step: clock?.step ?? task.checkpointStep, totalSteps: clock?.totalSteps ?? 0,
            elapsedMilliseconds: elapsedMilliseconds(of: task, clock: clock, now: now), notes: task.notes)
        if !job.state.isTerminal {
            status.remainingMilliseconds = remainingMilliseconds(of: task, id: id, clock: clock, now: now) ?? 0
        }
        status.notes += brokerNotes(on: task, in: job)
        return status
    }

    private func elapsedMilliseconds(of task: TaskRecord, clock: LeaseClock?, now: Instant) -> UInt64 {
        guard task.grantedUnixMilliseconds > 0 else { return 0 }
        if task.state == .leased, let clock {
            return max(
                now.elapsed(since: clock.grantedAt), difference(now.unixMilliseconds, task.grantedUnixMilliseconds))
        }
        return difference(task.endedUnixMilliseconds, task.grantedUnixMilliseconds)
    }

    private func difference(_ later: UInt64, _ earlier: UInt64) -> UInt64 { later > earlier ? later - earlier : 0 }

    /// What the broker itself has to say about a task: why it waits, why it runs again.
    private func brokerNotes(on task: TaskRecord, in job: JobRecord) -> [String] {
        var notes: [String] = []
        if task.isResumedElsewhere {
            notes.append("resumed from a checkpoint of other arithmetic: not bit-identical to an unbroken run")
        }
        if task.state != .done, !task.lastProblem.isEmpty { notes.append("before: \(task.lastProblem)") }
        let isServed = workers.values.contains { !$0.isDraining && $0.hello.serves(task.specification) }
        if task.state == .ready, !isServed {
            let stage = task.specification.stage
            let article = "aeiou".contains(stage.first ?? "x") ? "an" : "a"
            let model = task.specification.model.isEmpty ? "" : " with model \(task.specification.model.prefix(12))"
            notes.append("waiting for \(article) \(stage)\(model)")
        } else if task.state == .ready, let stage = stageInTheWay(of: task, in: job) {
            notes.append("held back: enough work waits for the \(stage)")
        }
        return notes
    }

    // MARK: Estimates

    /// From this run's own step times where there are any, else from what such tasks took before; nil when unknown.
    func remainingMilliseconds(of task: TaskRecord, id: TaskID, clock: LeaseClock?, now: Instant) -> UInt64? {
        if task.state == .done { return 0 }
        let expected = expectedMilliseconds(task.specification, id)
        guard task.state == .leased, let clock else { return expected }
        if let each = clock.stepMilliseconds, let newest = clock.newestStep, clock.totalSteps >= clock.step {
            let ahead = Double(clock.totalSteps - clock.step) * each
            let since = Double(now.elapsed(since: newest.at))
            return UInt64(max(1, ahead - min(since, each)))
        }
        guard let expected else { return nil }
        if clock.totalSteps > 0 {
            return max(
                1, UInt64(Double(expected) * (1 - Double(min(clock.step, clock.totalSteps)) / Double(clock.totalSteps)))
            )
        }
        return max(1, difference(expected, now.elapsed(since: clock.grantedAt)))
    }

    /// Jobs that will be begun before this one: as forecast, else those of higher priority or age.
    private func queuePosition(of job: JobRecord) -> UInt32 {
        if let place = forecast?.places[job.job] { return UInt32(place) }
        return UInt32(index.queuedBefore(job.ordinal, priority: job.priority))
    }
}

extension JobStatus {
    /// Upper estimate of the encoded size.
    var approximateBytes: Int {
        let text =
            job.utf8.count + specification.utf8.count + errorCode.utf8.count + errorMessage.utf8.count + cell.utf8.count
        let perTask = tasks.reduce(0) { sum, task in
            let notes = task.notes.reduce(0) { $0 + $1.utf8.count + 4 }
            return sum + task.name.utf8.count + task.stage.utf8.count + task.worker.utf8.count + notes + 64
        }
        let perOutput = outputs.reduce(0) { sum, output in
            sum + output.name.utf8.count + 128 + output.ref.locations.count * 160 + output.ref.shape.count * 6
        }
        return text + perTask + perOutput + 96
    }
}
