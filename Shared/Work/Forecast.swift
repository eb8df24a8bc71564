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
        /// Reading of the broker's clock; `.max` without one.
        var deadline: UInt64
        /// Whether it goes before others of its tenant because of it.
        var isPressed: Bool
        var ordinal: UInt64
        var hasBegun: Bool
        var parts: [Part]
    }

    /// Milliseconds until the end of each job that could be foretold.
    private(set) var remaining: [String: UInt64] = [:]
    /// How many of the jobs not yet begun will be begun before each of them.
    private(set) var places: [String: Int] = [:]
    /// Milliseconds until the next job of each tenant ends.
    private(set) var soonest: [String: UInt64] = [:]

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
        var pressingDeadline: UInt64
        var ordinal: UInt64
        var hasBegun: Bool
        var steps: [Step]
        var next = 0
        var step: Step { steps[next] }

        /// The order within one tenant.
        var key: (UInt64, Int, UInt64) { (pressingDeadline, hasBegun ? 0 : 1, ordinal) }
    }

    /// What waits for the same slots behind the same limit: all of it can start, or nothing.
    private struct Gate {
        var stage: Int
        /// Nil for what is not held back.
        var consumer: Int?
        var rank: Int
        /// By tenant, the first to go last.
        var queues: [[Int]]
        var count = 0
    }

    private struct GateKey: Hashable {
        var stage: Int
        var consumer: Int?
        var rank: Int
    }

    private var states: [State] = []
    private var gates: [Gate] = []
    private var gateIndices: [GateKey: Int] = [:]
    private var tenants: [String] = []
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
    ///   - last: the play stops at this job's end; nil plays everything.
    init(_ works: [Work], slots: [String: Int], limits: [String: Int], share: FairShare, until last: String? = nil) {
        let names = slots.keys.sorted()
        let stages = Dictionary(uniqueKeysWithValues: names.enumerated().map { ($1, $0) })
        free = names.map { slots[$0] ?? 0 }
        self.limits = names.map { limits[$0] ?? .max }
        let ranks = Set(works.map(\.priority)).sorted(by: >)
        backlog = Array(repeating: Array(repeating: 0, count: ranks.count), count: names.count)
        let possible = works.filter { work in work.parts.allSatisfy { slots[$0.stage, default: 0] > 0 } }
        var indices: [String: Int] = [:]
        for work in possible where indices[work.tenant] == nil {
            indices[work.tenant] = tenants.count
            tenants.append(work.tenant)
            served.append(share.served(work.tenant))
        }
        var events: [(at: UInt64, index: Int)] = []
        for work in possible {
            guard let first = work.parts.first else {
                remaining[work.job] = 0
                continue
            }
            let index = states.count, places = work.parts.map { stages[$0.stage] ?? 0 }
            let steps = work.parts.enumerated().map { place, part in
                Step(
                    stage: places[place], consumer: place + 1 < places.count ? places[place + 1] : nil,
                    milliseconds: part.milliseconds, wasBegun: part.wasBegun)
            }
            states.append(
                State(
                    job: work.job, tenant: indices[work.tenant] ?? 0,
                    rank: ranks.firstIndex(of: work.priority) ?? 0,
                    pressingDeadline: work.isPressed ? work.deadline : .max, ordinal: work.ordinal,
                    hasBegun: work.hasBegun, steps: steps))
            if first.isRunning {
                occupy(index)
                events.append((first.milliseconds, index))
            } else {
                wait(index, isOrdered: false)
            }
        }
        for gate in gates.indices {
            for tenant in tenants.indices {
                gates[gate].queues[tenant].sort { states[$0].key > states[$1].key }
            }
        }
        play(&events, until: last)
    }

    /// - Parameter isOrdered: false leaves the sorting to the caller.
    private mutating func wait(_ index: Int, isOrdered: Bool = true) {
        let state = states[index], step = state.step
        backlog[step.stage][state.rank] += 1
        let key = GateKey(stage: step.stage, consumer: step.wasBegun ? nil : step.consumer, rank: state.rank)
        let gate = gateIndices[key] ?? gates.count
        if gate == gates.count {
            gateIndices[key] = gate
            let queues = Array(repeating: [Int](), count: tenants.count)
            gates.append(Gate(stage: key.stage, consumer: key.consumer, rank: key.rank, queues: queues))
        }
        gates[gate].count += 1
        var place = gates[gate].queues[state.tenant].endIndex
        if isOrdered {
            while place > 0, states[gates[gate].queues[state.tenant][place - 1]].key < state.key { place -= 1 }
        }
        gates[gate].queues[state.tenant].insert(index, at: place)
    }

    private mutating func occupy(_ index: Int) {
        let step = states[index].step
        free[step.stage] -= 1
        if let consumer = step.consumer { backlog[consumer][states[index].rank] += 1 }
    }

    private mutating func play(_ events: inout [(at: UInt64, index: Int)], until last: String?) {
        var now: UInt64 = 0
        while true {
            // Whoever can start does, in the dispatcher's order.
            while let index = takeNext() {
                let step = states[index].step
                backlog[step.stage][states[index].rank] -= 1
                occupy(index)
                served[states[index].tenant] += Double(step.milliseconds)
                if !states[index].hasBegun {
                    states[index].hasBegun = true
                    places[states[index].job] = places.count
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
            guard states[event.index].next == states[event.index].steps.count else {
                wait(event.index)
                continue
            }
            let state = states[event.index]
            remaining[state.job] = now
            soonest[tenants[state.tenant]] = min(soonest[tenants[state.tenant]] ?? .max, now)
            if state.job == last { return }
        }
    }

    /// Takes what the dispatcher would start next out of its queue.
    private mutating func takeNext() -> Int? {
        var best: (gate: Int, tenant: Int, rank: (Int, Double), key: (UInt64, Int, UInt64))?
        for gate in gates.indices where gates[gate].count > 0 && free[gates[gate].stage] > 0 {
            let rank = gates[gate].rank
            if let best, best.rank.0 < rank { continue }
            if let consumer = gates[gate].consumer, backlog[consumer][...rank].reduce(0, +) >= limits[consumer] {
                continue
            }
            for tenant in tenants.indices {
                guard let index = gates[gate].queues[tenant].last else { continue }
                let place = (rank, served[tenant]), key = states[index].key
                if let best, best.rank < place || (best.rank == place && best.key <= key) { continue }
                best = (gate, tenant, place, key)
            }
        }
        guard let best else { return nil }
        gates[best.gate].count -= 1
        return gates[best.gate].queues[best.tenant].popLast()
    }
}
