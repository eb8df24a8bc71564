import Wire

// Estimates from the measured times.
extension BrokerState {
    /// Jobs that are played forward at most; those behind them get no estimate.
    private static let forecastJobs = 500
    /// A longer queue is played forward no more often than this.
    private static let forecastLifetime: UInt64 = 250
    /// Unfinished jobs that are played forward anew whenever something was decided.
    private static let shortQueue = 64

    /// Makes the forecast anew when it is old: a short queue's after every decision, a long one's at most four times a
    /// second.
    mutating func prepareForecast(_ now: Instant) {
        if forecast != nil, now.elapsed(since: forecastAt) < Self.forecastLifetime {
            guard isForecastStale, records.unfinished.count <= Self.shortQueue else { return }
        }
        forecastAt = now.milliseconds
        isForecastStale = false
        foreseenBacklog = index.backlog
        foreseen = index.nextJobs(Self.forecastJobs).compactMap { id in
            records.jobs[id].flatMap { work(of: $0, now: now) }
        }
        forecast = play(foreseen)
    }

    /// Milliseconds until the end of a job that is not accepted yet, if of its tenant only those went before it that are
    /// wanted sooner; nil when the time of some part is not known.
    mutating func foretell(_ job: JobRecord, now: Instant) -> UInt64? {
        prepareForecast(now)
        learnCosts(of: job)
        defer { forgetCosts(of: job) }
        guard var work = work(of: job, now: now) else { return nil }
        work.deadline = now.milliseconds + (job.deadline?.milliseconds ?? 0)
        var works = foreseen
        works.append(work)
        for index in works.indices { works[index].isPressed = works[index].deadline != .max }
        return play(works, until: job.job).remaining[job.job]
    }

    /// Of each stage, on workers that take more.
    private var slots: [String: Int] {
        var slots: [String: Int] = [:]
        for worker in workers.values where !worker.isDraining {
            for stage in Set(worker.hello.capabilities.map(\.stage)) {
                slots[stage, default: 0] += Int(worker.hello.slots)
            }
        }
        return slots
    }

    private func play(_ works: [Forecast.Work], until last: String? = nil) -> Forecast {
        let slots = slots
        let limits = slots.mapValues { max(1, $0) * configuration.backlogPerSlot }
        return Forecast(works, slots: slots, limits: limits, share: share, until: last)
    }

    private func work(of job: JobRecord, now: Instant) -> Forecast.Work? {
        guard let parts = parts(of: job, now: now) else { return nil }
        return Forecast.Work(
            job: job.job, tenant: job.key.tenant, priority: job.priority,
            deadline: deadlines[job.job]?.at ?? .max, isPressed: pressingDeadline(of: job.job) != .max,
            ordinal: job.ordinal, hasBegun: job.state == .running, parts: parts)
    }

    /// What is left of a job; nil when the time of some part is not known.
    private func parts(of job: JobRecord, now: Instant) -> [Forecast.Work.Part]? {
        var parts: [Forecast.Work.Part] = []
        var shared: [String: SharedPart] = [:]
        for task in job.tasks where task.state != .done {
            let id = TaskID(job: job.job, name: task.specification.name)
            let clock = task.state == .leased ? leases[id] : nil
            guard let left = remainingMilliseconds(of: task, id: id, clock: clock, now: now) else { return nil }
            let part = Forecast.Work.Part(
                stage: task.specification.stage, milliseconds: max(1, left), isRunning: clock != nil,
                wasBegun: task.checkpoint != nil || job.isPartOfBegun(task.specification))
            if let reader = job.reader(of: task.specification), reader.producers.count > 1 {
                let key = "\(part.stage) \(reader.specification.name)"
                if shared[key]?.add(part, to: &parts) != nil { continue }
                shared[key] = SharedPart(part, index: parts.count, slots: slots[part.stage] ?? 1)
            }
            parts.append(part)
        }
        return parts.sorted { $0.isRunning && !$1.isRunning }
    }
}

/// Tasks that several workers do at once for one reader: played as one part, as long as their shares of the slots.
private struct SharedPart {
    private let index: Int
    private let slots: Int
    private var count: UInt64 = 1
    private var sum: UInt64
    private var longest: UInt64

    init(_ first: Forecast.Work.Part, index: Int, slots: Int) {
        self.index = index
        self.slots = max(1, slots)
        sum = first.milliseconds
        longest = first.milliseconds
    }

    mutating func add(_ part: Forecast.Work.Part, to parts: inout [Forecast.Work.Part]) {
        count += 1
        sum += part.milliseconds
        longest = max(longest, part.milliseconds)
        parts[index].milliseconds = max(longest, sum / min(count, UInt64(slots)))
        parts[index].isRunning = parts[index].isRunning || part.isRunning
        parts[index].wasBegun = parts[index].wasBegun || part.wasBegun
    }
}
