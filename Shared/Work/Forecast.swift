import Wire

/// When jobs will end if everything goes on as measured: the dispatcher's own order played forward over the slots of each
/// stage (list scheduling).
struct Forecast: Sendable {
    /// What one job still has to do, one task after the other.
    struct Work: Sendable {
        struct Part: Sendable {
            var stage: String
            var milliseconds: UInt64
            /// Whether it holds a slot now.
            var isRunning: Bool
            /// Whether it has a checkpoint: it is not held back.
            var wasBegun: Bool
        }

        var job: String
        var tenant: String
        var priority: Int32
        var ordinal: UInt64
        var hasBegun: Bool
        var parts: [Part]
    }

    /// Milliseconds until the end of each job that could be foretold.
    private(set) var remaining: [String: UInt64] = [:]
    /// Jobs not yet begun, in the order in which they will be.
    private(set) var order: [String] = []

    /// A part in numbers, for the inner loop.
    private struct Step {
        var stage: Int
        /// The stage that reads what this part makes.
        var consumer: Int?
        var milliseconds: UInt64
        var wasBegun: Bool
    }
    private struct State {
        var job: String
        var tenant: Int
        /// Place of its priority among all, the most urgent first.
        var rank: Int
        var ordinal: UInt64
        var hasBegun: Bool
        var steps: [Step]
        var next = 0
        var step: Step { steps[next] }
    }

    private var states: [State] = []
    private var waiting: [Int] = []
    /// By stage.
    private var free: [Int] = []
    private var limits: [Int] = []
    /// What waits or is about to, by stage and rank.
    private var backlog: [[Int]] = []
    /// By tenant.
    private var served: [Double] = []

    /// - Parameters:
    ///   - slots: what works at each stage at once; jobs that need another stage are left out.
    ///   - limits: what may wait at each stage before the stage in front begins no more.
    ///   - share: what tenants have been given so far.
    init(_ works: [Work], slots: [String: Int], limits: [String: Int], share: FairShare) {
        let names = slots.keys.sorted()
        let stages = Dictionary(uniqueKeysWithValues: names.enumerated().map { ($1, $0) })
        free = names.map { slots[$0] ?? 0 }
        self.limits = names.map { limits[$0] ?? .max }
        let ranks = Set(works.map(\.priority)).sorted(by: >)
        backlog = Array(repeating: Array(repeating: 0, count: ranks.count), count: names.count)
        var tenants: [String: Int] = [:]
        var events: [(at: UInt64, index: Int)] = []
        for work in works where work.parts.allSatisfy({ slots[$0.stage, default: 0] > 0 }) {
            let parts = work.parts.map { (stages[$0.stage] ?? 0, $0) }
            let tenant = tenants[work.tenant] ?? tenants.count
            if tenants.updateValue(tenant, forKey: work.tenant) == nil { served.append(share.served(work.tenant)) }
            let index = states.count
            states.append(
                State(
                    job: work.job, tenant: tenant, rank: ranks.firstIndex(of: work.priority) ?? 0,
                    ordinal: work.ordinal, hasBegun: work.hasBegun,
                    steps: parts.enumerated().map { place, part in
                        Step(
                            stage: part.0, consumer: place + 1 < parts.count ? parts[place + 1].0 : nil,
                            milliseconds: part.1.milliseconds, wasBegun: part.1.wasBegun)
                    }))
            guard let first = work.parts.first else {
                remaining[work.job] = 0
                continue
            }
            if first.isRunning {
                occupy(index)
                events.append((first.milliseconds, index))
            } else {
                wait(index)
            }
        }
        play(&events)
    }

    private mutating func wait(_ index: Int) {
        waiting.append(index)
        backlog[states[index].step.stage][states[index].rank] += 1
    }

    private mutating func occupy(_ index: Int) {
        let step = states[index].step
        free[step.stage] -= 1
        if let consumer = step.consumer { backlog[consumer][states[index].rank] += 1 }
    }

    private mutating func play(_ events: inout [(at: UInt64, index: Int)]) {
        var now: UInt64 = 0
        while true {
            // Whoever can start does, in the dispatcher's order.
            while let place = choose() {
                let index = waiting.remove(at: place), step = states[index].step
                backlog[step.stage][states[index].rank] -= 1
                occupy(index)
                served[states[index].tenant] += Double(step.milliseconds)
                if !states[index].hasBegun {
                    states[index].hasBegun = true
                    order.append(states[index].job)
                }
                events.append((now + step.milliseconds, index))
            }
            let first = events.indices.min { (events[$0].at, events[$0].index) < (events[$1].at, events[$1].index) }
            guard let first else { return }
            let event = events.remove(at: first), step = states[event.index].step
            now = max(now, event.at)
            free[step.stage] += 1
            if let consumer = step.consumer { backlog[consumer][states[event.index].rank] -= 1 }
            states[event.index].next += 1
            if states[event.index].next < states[event.index].steps.count {
                wait(event.index)
            } else {
                remaining[states[event.index].job] = now
            }
        }
    }

    /// Place in `waiting` of what the dispatcher would start next.
    private func choose() -> Int? {
        var best: (place: Int, rank: (Int, Double, Int, UInt64))?
        for (place, index) in waiting.enumerated() {
            let state = states[index], step = state.step
            guard free[step.stage] > 0 else { continue }
            if !step.wasBegun, let consumer = step.consumer,
                backlog[consumer][...state.rank].reduce(0, +) >= limits[consumer]
            {
                continue
            }
            let rank = (state.rank, served[state.tenant], state.hasBegun ? 0 : 1, state.ordinal)
            if let best, best.rank <= rank { continue }
            best = (place, rank)
        }
        return best?.place
    }
}

extension BrokerState {
    /// Jobs that are played forward at most; those behind them get no estimate.
    private static let forecastJobs = 500
    /// How long a forecast serves while nothing was decided.
    private static let forecastLifetime: UInt64 = 250

    /// Makes the forecast anew when it is old.
    mutating func prepareForecast(_ now: Instant) {
        if forecast != nil, now.elapsed(since: forecastAt) < Self.forecastLifetime { return }
        forecastAt = now.milliseconds
        foreseenBacklog = backlog()
        var slots: [String: Int] = [:]
        for worker in workers.values where !worker.isDraining {
            for stage in Set(worker.hello.capabilities.map(\.stage)) {
                slots[stage, default: 0] += Int(worker.hello.slots)
            }
        }
        let jobs = records.unfinished.compactMap { records.jobs[$0] }
            .sorted {
                ($0.state == .running ? 0 : 1, -$0.priority, $0.ordinal) < (
                    $1.state == .running ? 0 : 1, -$1.priority, $1.ordinal
                )
            }
        var works: [Forecast.Work] = []
        for job in jobs.prefix(Self.forecastJobs) {
            guard let parts = parts(of: job, now: now) else { continue }
            works.append(
                Forecast.Work(
                    job: job.job, tenant: job.key.tenant, priority: job.priority, ordinal: job.ordinal,
                    hasBegun: job.state == .running, parts: parts))
        }
        forecast = Forecast(
            works, slots: slots, limits: slots.mapValues { max(1, $0) * configuration.backlogPerSlot }, share: share)
    }

    /// What is left of a job; nil when the time of some part is not known.
    private func parts(of job: JobRecord, now: Instant) -> [Forecast.Work.Part]? {
        var parts: [Forecast.Work.Part] = []
        for task in job.tasks where task.state != .done {
            let id = TaskID(job: job.job, name: task.specification.name)
            let clock = task.state == .leased ? leases[id] : nil
            guard let left = remainingMilliseconds(of: task, id: id, clock: clock, now: now) else { return nil }
            parts.append(
                Forecast.Work.Part(
                    stage: task.specification.stage, milliseconds: max(1, left), isRunning: clock != nil,
                    wasBegun: task.checkpoint != nil)
            )
        }
        return parts.sorted { $0.isRunning && !$1.isRunning }
    }
}
