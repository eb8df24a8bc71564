/// Decides after which steps a checkpoint is worth its cost: at most 2 % of the time is spent on them, and at the latest
/// after 5 s of work there is one, whatever it costs. A checkpoint that grows with every step has only the first rule.
package struct CheckpointPolicy: Sendable {
    /// How long a run may go on without one.
    package static let patience = Duration.seconds(5)
    /// One part in so many of the time may be spent.
    private static let share = 50
    /// Storing and committing cost the machine a few milliseconds whatever the size.
    private static let leastCost = Duration.milliseconds(2)

    private let isGrowing: Bool
    private var lastTime: ContinuousClock.Instant
    /// Step of the newest checkpoint, or the one that the run began with.
    package private(set) var lastStep = 0
    private var cost = leastCost

    /// - Parameter isGrowing: whether checkpoints become larger with every step (the latents of all steps are kept).
    package init(isGrowing: Bool, now: ContinuousClock.Instant = .now) {
        self.isGrowing = isGrowing
        lastTime = now
    }

    /// The run begins, at a checkpoint or at 0.
    package mutating func begin(at step: Int, now: ContinuousClock.Instant = .now) {
        lastStep = step
        lastTime = now
    }

    /// Whether the state is to be saved now.
    package func isDue(now: ContinuousClock.Instant = .now) -> Bool {
        let worthwhile = cost * Self.share
        return lastTime.duration(to: now) >= (isGrowing ? worthwhile : min(worthwhile, Self.patience))
    }

    /// Notes a checkpoint and what it cost the run and the machine.
    package mutating func saved(step: Int, cost: Duration, now: ContinuousClock.Instant = .now) {
        lastTime = now
        lastStep = step
        self.cost = max(Self.leastCost, cost)
    }
}
