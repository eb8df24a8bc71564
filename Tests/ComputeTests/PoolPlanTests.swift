import Compute
import Glibc
import Runtime
import Synchronization
import Testing

@Suite("Where threads go")
struct PoolPlanTests {
    private func plan(threads: Int, nodes: [String], quota: Int? = nil) throws -> PoolPlan {
        let nodes = try nodes.map { try CPUList(parsing: $0) }
        let usable = UsableCPUs(cpus: CPUList(nodes.flatMap(\.numbers)), quota: quota)
        return PoolPlan(threads: threads, usable: usable, topology: CPUTopology(nodes: nodes, cores: []))
    }

    @Test("one node: as many members as asked or usable, bound to nothing")
    func oneNode() throws {
        #expect(try plan(threads: 0, nodes: ["0-7"]) == PoolPlan(nodes: [.init(threads: 7)]))
        #expect(try plan(threads: 0, nodes: ["0-7"], quota: 3) == PoolPlan(nodes: [.init(threads: 2)]))
        #expect(try plan(threads: 5, nodes: ["0-7"]) == PoolPlan(nodes: [.init(threads: 4)]))
    }

    @Test("several nodes: members in proportion to the usable CPUs, bound to their node's")
    func severalNodes() throws {
        let first = try CPUList(parsing: "0-63"), second = try CPUList(parsing: "64-127")
        let all = try plan(threads: 0, nodes: ["0-63", "64-127"])
        #expect(all.nodes == [.init(threads: 63, cpus: first), .init(threads: 64, cpus: second)])
        #expect(all.members == 128)
        let uneven = try plan(threads: 0, nodes: ["0", "64-66"])
        #expect(uneven.nodes.map(\.threads) == [0, 3])
        #expect(try plan(threads: 3, nodes: ["0-63", "64-127"]).nodes.map(\.threads) == [1, 1])
        #expect(try plan(threads: 1, nodes: ["0-63", "64-127"]) == PoolPlan(nodes: [.init(threads: 0)]))
    }

    @Test("members that outnumber the CPUs, or are alone on one, do not spin")
    func spinning() throws {
        #expect(try plan(threads: 8, nodes: ["0-7"]).spins)
        #expect(try !plan(threads: 9, nodes: ["0-7"]).spins)
        #expect(try !plan(threads: 0, nodes: ["3"]).spins)
        #expect(try !plan(threads: 0, nodes: ["0-7"], quota: 1).spins)
    }

    @Test("every number of members up to 300 is given out exactly, on one to four nodes", arguments: 1...4)
    func allGiven(count: Int) throws {
        let nodes = (0..<count).map { "\($0 * 40)-\($0 * 40 + 10 + $0 * 7)" }
        for threads in 1...300 {
            let plan = try plan(threads: threads, nodes: nodes)
            #expect(plan.members == threads)
            #expect(plan.nodes.allSatisfy { $0.threads >= 0 })
        }
    }
}

@Suite("Threads of several nodes")
struct NodeTeamTests {
    private func pool(_ threads: [Int], spins: Bool = true) throws -> ParallelPool {
        try #require(ParallelPool(plan: PoolPlan(nodes: threads.map { .init(threads: $0) }, spins: spins)))
    }

    @Test(
        "every part runs exactly once, whatever the nodes, groups and waiting",
        arguments: [[0], [1], [40], [1, 2], [0, 3], [17, 16, 1], [63, 64]], [true, false])
    func everyPartOnce(threads: [Int], spins: Bool) throws {
        let pool = try pool(threads, spins: spins)
        #expect(pool.threads == 1 + threads.reduce(0, +))
        for count in [0, 1, 2, 3, 16, 257, 1000] {
            let counts = Mutex([Int](repeating: 0, count: count))
            let members = Mutex(Set<Int>())
            pool.run(count) { part, member in
                counts.withLock { $0[part] += 1 }
                members.withLock { _ = $0.insert(member) }
            }
            #expect(counts.withLock { $0 } == [Int](repeating: 1, count: count))
            #expect(members.withLock { $0 }.allSatisfy { (0..<pool.threads).contains($0) })
        }
    }

    /// Holds everybody until `count` have come: as many members as parts must all take exactly one.
    private final class Meeting: Sendable {
        private let missing: Mutex<Int>
        init(_ count: Int) { missing = Mutex(count) }
        func meet() {
            missing.withLock { $0 -= 1 }
            while missing.withLock({ $0 > 0 }) { sched_yield() }
        }
    }

    @Test(
        "all members are woken when there is a part for each, however many there are",
        arguments: [[1], [40], [20, 21]])
    func wakingAll(threads: [Int]) throws {
        let pool = try pool(threads)
        for _ in 0..<20 {
            let meeting = Meeting(pool.threads)
            let members = Mutex(Set<Int>())
            pool.run(pool.threads) { _, member in
                members.withLock { _ = $0.insert(member) }
                meeting.meet()
            }
            #expect(members.withLock { $0.count } == pool.threads)
        }
    }

    @Test("members begin with their own node's range")
    func ownRange() throws {
        // Members 0 to 2 are of the first node, the caller being on it for want of known CPUs, 3 to 5 of the second.
        let pool = try pool([2, 3])
        for _ in 0..<20 {
            let meeting = Meeting(6)
            let taken = Mutex([Int: Int]())
            pool.run(6) { part, member in
                taken.withLock { $0[member] = part }
                meeting.meet()
            }
            let parts = taken.withLock { $0 }
            #expect(Set((0..<3).compactMap { parts[$0] }) == [0, 1, 2])
            #expect(Set((3..<6).compactMap { parts[$0] }) == [3, 4, 5])
        }
    }

    @Test("a node's members help with the parts that another node has left")
    func helping() throws {
        let pool = try pool([0, 1])
        // The member of the second node holds its first part until all others are done, its own included.
        let left = Atomic(19)
        let takers = Mutex([Int](repeating: -1, count: 20))
        pool.run(20) { part, member in
            takers.withLock { $0[part] = member }
            if member == 1 {
                while left.load(ordering: .acquiring) > 0 { sched_yield() }
            } else {
                left.subtract(1, ordering: .acquiringAndReleasing)
            }
        }
        let byMember = takers.withLock { $0 }
        #expect(byMember.filter { $0 == 1 }.count <= 1)
        #expect(byMember.filter { $0 == 0 }.count >= 19)
    }

    @Test("threads are bound to the CPUs of their node, and nobody else is")
    func binding() throws {
        let usable = UsableCPUs.current().cpus
        let last = CPUList([try #require(usable.numbers.last)])
        let plan = PoolPlan(nodes: [.init(threads: 1, cpus: last), .init(threads: 1)])
        let pool = try #require(ParallelPool(plan: plan))
        let meeting = Meeting(3)
        let masks = Mutex([Int: CPUList]())
        pool.run(3) { _, member in
            masks.withLock { $0[member] = UsableCPUs.current().cpus }
            meeting.meet()
        }
        #expect(masks.withLock { $0 } == [0: usable, 1: last, 2: usable])
    }

    @Test("a pool that never ran, and one whose threads sleep, end at once")
    func ending() throws {
        for _ in 0..<50 {
            _ = try pool([5, 20])
            let used = try pool([5, 20], spins: false)
            used.run(3) { _, _ in }
        }
    }

    @Test("loops that follow each other see what the one before wrote", arguments: [[3], [20, 20]])
    func order(threads: [Int]) throws {
        let pool = try pool(threads)
        let count = 64
        let values = UnsafeMutableBufferPointer<Int>.allocate(capacity: count)
        defer { values.deallocate() }
        values.initialize(repeating: 0)
        let cells = Cells(values: values)
        for round in 0..<200 {
            // Each part reads what another member may have written in the loop before.
            pool.run(count / 2) { part, _ in
                cells.values[2 * part + (round + 1) % 2] = cells.values[(2 * part + round % 2 + 2) % count] + 1
            }
        }
        #expect(values.reduce(0, +) > 0)
        #expect(values.max() == 200)
    }

    /// `@unchecked Sendable`: a loop writes the cells of one parity, each in one part, and reads those of the other.
    private struct Cells: @unchecked Sendable {
        let values: UnsafeMutableBufferPointer<Int>
    }
}
