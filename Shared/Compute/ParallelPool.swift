import CPlatform
import Runtime

/// A team of threads that runs the parts of one loop at a time; idle members sleep.
///
/// Every backend owns one. Which member takes which part is decided while the loop runs, so a result that must not
/// depend on the number of threads may depend on the part only. On a machine of several memory nodes each node's members
/// begin with a contiguous range of the parts: parts that are cut from the same rows meet the same memory.
/// `@unchecked Sendable`: the pointer never changes, and the C side locks.
package final class ParallelPool: @unchecked Sendable {
    private typealias Body = (Int, Int) -> Void
    private let team: OpaquePointer

    /// Threads that run a loop, the caller included.
    package let threads: Int

    /// Starts `threads − 1` threads; 0 takes one a CPU that this process may use. When the system refuses some of them,
    /// the pool is smaller.
    package convenience init(threads: Int = 0) {
        let usable = UsableCPUs.current(), topology = CPUTopology.current(of: usable.cpus)
        var plan = PoolPlan(threads: threads, usable: usable, topology: topology)
        var team = Self.start(plan)
        while team == nil, plan.members > 1 {
            plan = PoolPlan(threads: plan.members / 2, usable: usable, topology: topology)
            team = Self.start(plan)
        }
        guard let team else { preconditionFailure("out of memory for a thread pool") }
        self.init(team: team)
    }

    /// Starts exactly the threads of `plan`, or none where the system refuses one of them.
    package convenience init?(plan: PoolPlan) {
        guard let team = Self.start(plan) else { return nil }
        self.init(team: team)
    }

    private init(team: OpaquePointer) {
        self.team = team
        threads = Int(cs_team_members(team))
    }

    deinit { cs_team_free(team) }

    private static func start(_ plan: PoolPlan) -> OpaquePointer? {
        let cpus = plan.nodes.flatMap { $0.cpus.numbers.map(Int32.init) }
        return cpus.withUnsafeBufferPointer { cpus in
            var used = 0
            let nodes = plan.nodes.map { node in
                defer { used += node.cpus.count }
                return cs_team_node(
                    threads: Int32(node.threads), cpus: cpus.baseAddress.map { $0 + used },
                    cpu_count: Int32(node.cpus.count))
            }
            return nodes.withUnsafeBufferPointer { nodes in
                guard let first = nodes.baseAddress else { return nil }
                return "zoetrope-math".withCString { name in
                    var wanted = cs_team_plan(
                        name: name, nodes: first, node_count: Int32(nodes.count), spins: plan.spins)
                    return cs_team_new(&wanted)
                }
            }
        }
    }

    /// Calls `body(part, member)` once for every part, and returns when all have returned. Calls from several threads
    /// wait for each other; the body must not run its own pool.
    package func run(_ parts: Int, _ body: (_ part: Int, _ member: Int) -> Void) {
        withoutActuallyEscaping(body) { escapable in
            var context: Body = escapable
            withUnsafeMutablePointer(to: &context) { pointer in
                cs_team_run(
                    team, Int64(parts),
                    { context, part, member in
                        context?.assumingMemoryBound(to: Body.self).pointee(Int(part), Int(member))
                    }, pointer)
            }
        }
    }

    /// Cuts `count` rows into ranges of `grain` rows, which depend on nothing else, and runs them as parts.
    package func run(rows count: Int, grain: Int, _ body: (_ rows: Range<Int>, _ member: Int) -> Void) {
        run((count + grain - 1) / grain) { part, member in
            body(part * grain..<min(count, (part + 1) * grain), member)
        }
    }
}
