/// How large a seed's world is and how narrow its limits are.
struct Shape {
    let tenants: Int
    /// Unfinished jobs of all tenants, and of one.
    let jobLimit: Int
    let tenantJobLimit: Int
    /// Some jobs denoise in many steps, so that urgent ones find them under way.
    let hasLongTasks: Bool
    /// Some jobs must be done by a certain time.
    let hasDeadlines: Bool
    /// One tenant wants far more than the others, all at the same priority.
    let isCrowded: Bool

    init(isQuiet: Bool, random: inout SeededGenerator) {
        tenants = 1 + random.below(4)
        jobLimit = random.below(8) == 0 && !isQuiet ? 3 : 10_000
        isCrowded = random.below(isQuiet ? 4 : 128) == 0
        tenantJobLimit = random.below(8) == 0 && !isQuiet && !isCrowded ? 1 + random.below(2) : 1000
        hasDeadlines = random.below(4) == 0 && !isCrowded
        hasLongTasks = random.below(4) == 0 && !isCrowded
    }

    /// Jobs of the tenant that wants most, and of each of the others, in a crowded world.
    static let crowd = (first: 24, others: 3)
}

/// How often the scheduler's rules came into play.
package struct SchedulingCounts: Sendable, Hashable {
    /// Leases asked back for a more urgent task, and leases of quarantined tasks.
    package var preemptions = 0
    package var quarantines = 0
    /// Refusals with `quota` and with `overloaded`.
    package var refusals = 0
    /// Jobs that go on from a dead one.
    package var retries = 0
    /// Jobs that ended at their deadline.
    package var deadlines = 0
    /// Slots given while another tenant waited, and while a less urgent task did.
    package var shares = 0
    package var precedences = 0
    /// Workers that helped others with a task or followed one.
    package var helps = 0

    package init() {}

    package mutating func add(_ other: SchedulingCounts) {
        preemptions += other.preemptions
        quarantines += other.quarantines
        refusals += other.refusals
        retries += other.retries
        deadlines += other.deadlines
        shares += other.shares
        precedences += other.precedences
        helps += other.helps
    }
}
