import Wire
import Work

/// What must be true of any sequence of committed entries, checked without the code under test.
struct History {
    var violations: [String] = []
    private var open: [TaskID: UInt64] = [:]
    private var granted: Set<Lease> = []
    private var completed: Set<Lease> = []
    private var done: [String: Set<String>] = [:]
    private var taskCounts: [String: Int] = [:]
    private var ends: [String: JobState] = [:]
    private var lastFence: UInt64 = 0
    private var keys: Set<SubmissionKey> = []
    private(set) var grants = 0
    private(set) var losses = 0

    var areAllOver: Bool { ends.count == taskCounts.count }
    var endStates: [JobState] { Array(ends.values) }
    var unfinished: [String] { taskCounts.keys.filter { ends[$0] == nil } }

    mutating func check(_ entry: LedgerEntry) {
        if let end = ends[entry.job] { violations.append("\(entry.kind) after \(end) of \(entry.job)") }
        switch entry {
        case .jobAccepted(let acceptance):
            expect(keys.insert(acceptance.key).inserted, "two jobs for key \(acceptance.key.key)")
            taskCounts[acceptance.job] = acceptance.tasks.count
        case .leaseGranted(let grant):
            expect(grant.lease.fence > lastFence, "fence \(grant.lease.fence) after \(lastFence)")
            expect(open[grant.lease.task] == nil, "\(grant.lease.task) leased twice at a time")
            lastFence = max(lastFence, grant.lease.fence)
            open[grant.lease.task] = grant.lease.fence
            granted.insert(grant.lease)
            grants += 1
        case .checkpointCommitted(let commit): expectOpen(commit.lease, "checkpoint")
        case .taskCompleted(let completion):
            expectOpen(completion.lease, "result")
            open[completion.lease.task] = nil
            completed.insert(completion.lease)
            done[entry.job, default: []].insert(completion.lease.task.name)
            if done[entry.job]?.count == taskCounts[entry.job] { ends[entry.job] = .done }
        case .leaseEnded(let end):
            expectOpen(end.lease, "end")
            open[end.lease.task] = nil
        case .outputsLost(let loss):
            losses += 1
            done[entry.job]?.subtract(loss.producers)
            if let consumer = loss.consumer {
                expectOpen(consumer, "loss")
                open[consumer.task] = nil
            }
        case .jobEnded(let end): ends[entry.job] = end.state
        case .jobForgotten: break
        }
    }

    /// Nothing leaves the broker that is not on disk.
    mutating func checkPromise(_ message: Message) {
        switch message {
        case .accepted(let accepted): expect(taskCounts[accepted.job] != nil, "ACCEPTED \(accepted.job) is not on disk")
        case .assign(let assign): expect(granted.contains(assign.lease), "ASSIGN \(assign.lease.fence) is not on disk")
        case .committed(let lease): expect(completed.contains(lease), "COMMITTED \(lease.fence) is not on disk")
        case .cancelOutcome(let outcome):
            expect(
                ends[outcome.job] == outcome.state,
                "client told \(outcome.state), disk says \(String(describing: ends[outcome.job]))")
        default: break
        }
    }

    private mutating func expectOpen(_ lease: Lease, _ what: String) {
        expect(open[lease.task] == lease.fence, "stale \(what) of \(lease.task) with fence \(lease.fence) counted")
    }

    private mutating func expect(_ isTrue: Bool, _ problem: String) {
        if !isTrue { violations.append(problem) }
    }
}

/// SplitMix64: the same numbers for the same seed on every machine.
struct SeededGenerator: RandomNumberGenerator {
    private var state: UInt64

    init(seed: UInt64) { state = seed &* 0x9e37_79b9_7f4a_7c15 &+ 1 }

    mutating func next() -> UInt64 {
        state &+= 0x9e37_79b9_7f4a_7c15
        var mixed = state
        mixed = (mixed ^ (mixed >> 30)) &* 0xbf58_476d_1ce4_e5b9
        mixed = (mixed ^ (mixed >> 27)) &* 0x94d0_49bb_1331_11eb
        return mixed ^ (mixed >> 31)
    }
}

/// A binary heap by time; equal times in the order of arrival.
struct EventQueue<Element> {
    private var heap: [(time: UInt64, order: Int, element: Element)] = []
    private var pushed = 0

    mutating func push(_ element: Element, at time: UInt64) {
        heap.append((time, pushed, element))
        pushed += 1
        var child = heap.count - 1
        while child > 0, isBefore(child, (child - 1) / 2) {
            heap.swapAt(child, (child - 1) / 2)
            child = (child - 1) / 2
        }
    }

    mutating func pop() -> (time: UInt64, element: Element)? {
        guard !heap.isEmpty else { return nil }
        heap.swapAt(0, heap.count - 1)
        let (time, _, element) = heap.removeLast()
        var parent = 0
        while true {
            var least = parent
            for child in [2 * parent + 1, 2 * parent + 2] where child < heap.count && isBefore(child, least) {
                least = child
            }
            if least == parent { break }
            heap.swapAt(parent, least)
            parent = least
        }
        return (time, element)
    }

    private func isBefore(_ left: Int, _ right: Int) -> Bool {
        (heap[left].time, heap[left].order) < (heap[right].time, heap[right].order)
    }
}
