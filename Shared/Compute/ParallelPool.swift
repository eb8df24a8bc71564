import CPlatform

/// A team of threads that runs the parts of one loop at a time; idle members sleep.
///
/// Every backend owns one. Which member takes which part is decided while the loop runs, so a result that must not
/// depend on the number of threads may depend on the part only.
/// `@unchecked Sendable`: the pointer never changes, and the C side locks.
package final class ParallelPool: @unchecked Sendable {
    private typealias Body = (Int, Int) -> Void
    private let team: OpaquePointer

    /// Threads that run a loop, the caller included.
    package let threads: Int

    /// Starts `threads − 1` threads; 0 takes the number of cores that this process may use. When the system refuses
    /// some of them, the pool is smaller.
    package init(threads: Int = 0) {
        var wanted = threads > 0 ? threads : Int(cs_usable_cores())
        var started = cs_team_new(Int32(wanted), "zoetrope-math")
        while started == nil, wanted > 1 {
            wanted /= 2
            started = cs_team_new(Int32(wanted), "zoetrope-math")
        }
        guard let started else { preconditionFailure("out of memory for a thread pool") }
        team = started
        self.threads = Int(cs_team_members(started))
    }

    deinit { cs_team_free(team) }

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
