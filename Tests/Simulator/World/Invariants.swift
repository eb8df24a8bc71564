/// What must be true in every world, whatever happens. Each is checked without asking the code under test.
package enum Invariant: String, Sendable, CaseIterable, Hashable {
    /// A job that is over stays what it is, and nothing of it is committed afterwards.
    case oneEnd = "a job has one end"
    /// A task's result is committed once, unless its outputs were lost in between.
    case oneEffect = "a task has one effect"
    /// The fences of a ledger only rise, across restarts too.
    case risingFences = "fences rise"
    /// No task is leased twice at a time.
    case oneHolder = "a task has one holder"
    /// Checkpoints, results, failures and ends count only for the lease that is open, from the session that holds it.
    case currentFence = "only the current fence counts"
    /// Checkpoints of a lease only grow.
    case growingCheckpoints = "checkpoints grow"
    /// What a message says is on disk before the message leaves.
    case commitBeforeSend = "commit before send"
    /// What was ever on disk as committed is there after every restart.
    case durability = "no commit is lost"
    /// A tenant's idempotency key has one job as long as that job is on record, and its body never changes.
    case oneJobPerKey = "a key has one job"
    /// Every committed output and checkpoint is what an undisturbed run would have made: nothing torn, stale or foreign
    /// was computed with.
    case rightBytes = "the bytes are right"
    /// The store keeps what a record refers to, and a worker's memory what an unfinished task will read.
    case neededBlobsStay = "needed blobs stay"
    /// Attempts, crashes and failures are what the entries say, and within their limits.
    case counters = "the counters are right"
    /// A lease runs out only when no beat that lists it has come to the broker's host for one lease time.
    case noSpuriousExpiry = "no lease runs out early"
    /// A task goes to a worker that said it can do it.
    case fitness = "tasks go to fit workers"
    /// The broker's records in memory are the fold of what is on disk.
    case foldAgrees = "memory agrees with disk"
    /// A broker that cannot write decides nothing.
    case readOnly = "a read-only broker decides nothing"
    /// What a client is told about an end is what the disk says, and revisions of a job's status rise.
    case truth = "clients are told the truth"
    /// A job that must fail fails, one that kills its workers is DEAD after the limit, and neither is ever DONE.
    case containment = "bad jobs end badly and alone"
    /// Inputs that are lost or damaged are made again: no job fails for the want of them.
    case remaking = "what is lost is made again"
    /// A damaged frame is refused, an undamaged one understood as it was meant.
    case frames = "frames arrive whole or not at all"
    /// Volatile tables hold nothing of what is over.
    case boundedMemory = "memory is bounded"
    /// In a world without faults every job is DONE and every task took one lease.
    case noWaste = "an undisturbed cluster wastes nothing"
    /// A retry goes on from a job that failed or died, takes over all that was stored of it, and nothing else.
    case retries = "a retry takes over what was done"
    /// Whoever asks is answered in the same turn: accepted, refused or told; nothing is dropped silently.
    case answers = "every question is answered"
    /// Jobs are accepted up to the limits of a tenant and of all, and refused only there.
    case admission = "admission keeps its limits"
    /// What took two workers down has its worker for itself, and its stage runs one of the kind.
    case quarantine = "poison runs alone"
    /// No slot goes to a task while a more urgent one that its worker could do is ready.
    case priorities = "the urgent goes first"
    /// A task makes room only for a more urgent one, not too often, and goes on from its newest checkpoint.
    case preemption = "making room costs nothing"
    /// No tenant is given more than another that waits, but for what is under way.
    case fairness = "tenants share"
    /// A job ends at its deadline, neither before it nor long after, whatever happens to wall clocks; one without never.
    case deadlines = "deadlines are kept"
    /// The dead are listed with what killed them, and nobody else is.
    case evidence = "the dead are on the list"
    /// Once the faults stop, every submission is accepted, every job ends, and every client hears of it in time.
    case liveness = "everything ends"
}

/// One broken invariant.
package struct Violation: Sendable, Hashable, CustomStringConvertible {
    package var invariant: Invariant
    /// Simulated milliseconds since the start of the world.
    package var at: UInt64
    package var detail: String

    package var description: String { "\(invariant.rawValue): \(detail) (at \(at) ms)" }
}
