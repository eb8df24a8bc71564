import Wire

/// What dispatcher, admission, forecast and status ask about all unfinished jobs, kept up to date one job at a time: with
/// ten thousand of them waiting, nothing may look at each.
///
/// It follows from the records and from which deadlines are pressing; `BrokerState.reindex` renews a job's part after
/// every entry about it.
struct WorkIndex: Sendable, Hashable {
    /// READY tasks that the same workers take and that the same backlog holds back.
    struct Lane: Sendable, Hashable {
        var stage: String
        var model: String
        /// The stage whose backlog can hold them back; nil for the last stage and for what was begun.
        var consumer: String?
    }

    /// A READY task.
    struct Candidate: Sendable, Hashable {
        /// When its job must be done, where that is at risk; `.max` otherwise.
        var pressingDeadline: UInt64
        /// Jobs under way come before jobs not begun: finishing frees memory and pleases somebody.
        var isUnderWay: Bool
        var ordinal: UInt64
        /// Place in the job; later stages first.
        var position: Int
        var job: String

        /// The order within one tenant and priority.
        func goesBefore(_ other: Candidate) -> Bool {
            if pressingDeadline != other.pressingDeadline { return pressingDeadline < other.pressingDeadline }
            if isUnderWay != other.isUnderWay { return isUnderWay }
            if ordinal != other.ordinal { return ordinal < other.ordinal }
            return position > other.position
        }
    }

    /// A job in the order of its tenant.
    struct Place: Sendable, Hashable {
        var pressingDeadline: UInt64
        var ordinal: UInt64
        var job: String

        func goesBefore(_ other: Place) -> Bool {
            (pressingDeadline, ordinal) < (other.pressingDeadline, other.ordinal)
        }
    }

    /// ACCEPTED jobs of one priority.
    private struct Queue: Sendable, Hashable {
        /// Ascending.
        var ordinals: [UInt64] = []
        var tenants: [String: [Place]] = [:]
    }

    /// What one job adds to the tables.
    fileprivate struct Part: Sendable, Hashable {
        var priority: Int32
        var tenant: String
        var place: Place
        var isUnderWay: Bool
        var ready: [ReadyTask] = []
        /// Consumers of the tasks at work.
        var coming: [String] = []
    }

    fileprivate struct ReadyTask: Sendable, Hashable {
        var lane: Lane
        var candidate: Candidate
    }

    private var parts: [String: Part] = [:]
    private var ready: [Int32: [Lane: [String: [Candidate]]]] = [:]
    private var queues: [Int32: Queue] = [:]
    private var underWay: [Int32: [Place]] = [:]
    /// Unfinished jobs of each tenant that has any.
    private(set) var tenants: [String: Int] = [:]
    /// Unfinished jobs of which no task was ever leased.
    private(set) var queuedCount = 0
    /// What waits at the stages or is about to.
    private(set) var backlog = Backlog()

    // MARK: Changes

    /// - Parameters:
    ///   - job: nil when it is forgotten.
    ///   - pressingDeadline: `BrokerState.pressingDeadline`.
    mutating func update(_ id: String, _ job: JobRecord?, pressingDeadline: UInt64) {
        let new = job.flatMap { $0.state.isTerminal ? nil : Part($0, pressingDeadline: pressingDeadline) }
        let old = parts[id]
        guard new != old else { return }
        if let old { remove(old) }
        if let new { insert(new) }
        parts[id] = new
    }

    private mutating func insert(_ part: Part) {
        tenants[part.tenant, default: 0] += 1
        if part.isUnderWay {
            underWay[part.priority, default: []].insert(part.place, inOrder: { $0.goesBefore($1) })
        } else {
            queuedCount += 1
            queues[part.priority, default: Queue()].ordinals.insert(part.place.ordinal, inOrder: <)
            queues[part.priority, default: Queue()].tenants[part.tenant, default: []]
                .insert(part.place, inOrder: { $0.goesBefore($1) })
        }
        for task in part.ready {
            ready[part.priority, default: [:]][task.lane, default: [:]][part.tenant, default: []]
                .insert(task.candidate, inOrder: { $0.goesBefore($1) })
            backlog.add(task.lane.stage, priority: part.priority, 1)
        }
        for stage in part.coming { backlog.add(stage, priority: part.priority, 1) }
    }

    private mutating func remove(_ part: Part) {
        tenants[part.tenant] = tenants[part.tenant].flatMap { $0 > 1 ? $0 - 1 : nil }
        if part.isUnderWay {
            underWay[part.priority]?.remove(part.place, inOrder: { $0.goesBefore($1) })
            if underWay[part.priority]?.isEmpty == true { underWay[part.priority] = nil }
        } else {
            queuedCount -= 1
            queues[part.priority]?.ordinals.remove(part.place.ordinal, inOrder: <)
            queues[part.priority]?.tenants[part.tenant]?.remove(part.place, inOrder: { $0.goesBefore($1) })
            if queues[part.priority]?.tenants[part.tenant]?.isEmpty == true {
                queues[part.priority]?.tenants[part.tenant] = nil
            }
            if queues[part.priority]?.ordinals.isEmpty == true { queues[part.priority] = nil }
        }
        for task in part.ready {
            ready[part.priority]?[task.lane]?[part.tenant]?.remove(task.candidate, inOrder: { $0.goesBefore($1) })
            backlog.add(task.lane.stage, priority: part.priority, -1)
            guard ready[part.priority]?[task.lane]?[part.tenant]?.isEmpty == true else { continue }
            ready[part.priority]?[task.lane]?[part.tenant] = nil
            guard ready[part.priority]?[task.lane]?.isEmpty == true else { continue }
            ready[part.priority]?[task.lane] = nil
            if ready[part.priority]?.isEmpty == true { ready[part.priority] = nil }
        }
        for stage in part.coming { backlog.add(stage, priority: part.priority, -1) }
    }

    // MARK: Questions

    var hasReady: Bool { !ready.isEmpty }

    /// Priorities of READY tasks, the most urgent first.
    var readyPriorities: [Int32] { ready.keys.sorted(by: >) }

    /// READY tasks of a priority, by lane and tenant, each list in its tenant's order.
    func ready(_ priority: Int32) -> [Lane: [String: [Candidate]]] { ready[priority] ?? [:] }

    /// Jobs that are accepted and not begun, of higher priority or age than this one.
    func queuedBefore(_ ordinal: UInt64, priority: Int32) -> Int {
        queues.reduce(0) { sum, queue in
            if queue.key < priority { return sum }
            if queue.key > priority { return sum + queue.value.ordinals.count }
            return sum + queue.value.ordinals.place(of: ordinal, inOrder: <)
        }
    }

    /// Jobs of which a task was leased, the most urgent first.
    var jobsUnderWay: [String] {
        underWay.sorted { $0.key > $1.key }.flatMap { $0.value.map(\.job) }
    }

    /// The jobs that are likely to be worked on next: those under way, then of each priority every tenant's first, every
    /// tenant's second and so on.
    func nextJobs(_ limit: Int) -> [String] {
        var jobs = Array(jobsUnderWay.prefix(limit))
        for (_, queue) in queues.sorted(by: { $0.key > $1.key }) {
            let lists = queue.tenants.sorted { $0.key < $1.key }.map(\.value)
            var depth = 0, hasMore = true
            while hasMore, jobs.count < limit {
                hasMore = false
                for list in lists where depth < list.count && jobs.count < limit {
                    jobs.append(list[depth].job)
                    hasMore = true
                }
                depth += 1
            }
        }
        return jobs
    }
}

extension WorkIndex.Part {
    init(_ job: JobRecord, pressingDeadline: UInt64) {
        priority = job.priority
        tenant = job.key.tenant
        place = WorkIndex.Place(pressingDeadline: pressingDeadline, ordinal: job.ordinal, job: job.job)
        isUnderWay = job.state == .running
        // What many parts make is read once.
        var awaited: Set<String> = []
        for (position, task) in job.tasks.enumerated() {
            switch task.state {
            case .ready:
                let lane = WorkIndex.Lane(
                    stage: task.specification.stage, model: task.specification.model,
                    consumer: task.checkpoint == nil && !job.isPartOfBegun(task.specification)
                        ? job.consumer(of: task.specification) : nil)
                let candidate = WorkIndex.Candidate(
                    pressingDeadline: pressingDeadline, isUnderWay: isUnderWay, ordinal: job.ordinal,
                    position: position, job: job.job)
                ready.append(WorkIndex.ReadyTask(lane: lane, candidate: candidate))
            case .leased:
                if let reader = job.reader(of: task.specification)?.specification,
                    awaited.insert(reader.name).inserted
                {
                    coming.append(reader.stage)
                }
            default: break
            }
        }
    }
}

/// Tasks that wait at a stage or are about to: READY ones, and leased producers of theirs, by their job's priority.
struct Backlog: Sendable, Hashable {
    private var counts: [String: [Int32: Int]] = [:]

    mutating func add(_ stage: String, priority: Int32, _ change: Int) {
        let count = (counts[stage]?[priority] ?? 0) + change
        counts[stage, default: [:]][priority] = count > 0 ? count : nil
        if counts[stage]?.isEmpty == true { counts[stage] = nil }
    }

    /// What stands before a task of this priority: more urgent work is not held back by the less urgent.
    func count(_ stage: String, priority: Int32) -> Int {
        counts[stage]?.reduce(0) { $0 + ($1.key >= priority ? $1.value : 0) } ?? 0
    }
}

// Arrays that are kept sorted, without equal elements.
extension Array {
    /// The number of elements before `element`.
    func place(of element: Element, inOrder goesBefore: (Element, Element) -> Bool) -> Int {
        var low = 0, high = count
        while low < high {
            let middle = (low + high) / 2
            if goesBefore(self[middle], element) { low = middle + 1 } else { high = middle }
        }
        return low
    }

    mutating func insert(_ element: Element, inOrder goesBefore: (Element, Element) -> Bool) {
        insert(element, at: place(of: element, inOrder: goesBefore))
    }

    mutating func remove(_ element: Element, inOrder goesBefore: (Element, Element) -> Bool) where Element: Equatable {
        let place = place(of: element, inOrder: goesBefore)
        if place < count, self[place] == element { remove(at: place) }
    }
}
