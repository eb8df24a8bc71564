import Wire
import Work

/// The broker's ledger as the simulated disk holds it: a snapshot and the journal after it, as `Ledger` keeps them.
struct SimulatedLedger {
    private var snapshot: (jobs: [JobRecord], lastFence: UInt64, lastOrdinal: UInt64)?
    private(set) var journal: [LedgerEntry] = []
    /// Entries of a commit that was refused after its bytes were written: the next write covers them, but a crash before
    /// that makes them valid.
    private(set) var ghosts: [LedgerEntry] = []
    /// How many entries at the end are not flushed; always 0 while commits are durable.
    private var unflushed = 0
    var isFull = false

    func load() -> Records {
        var records =
            snapshot.map { Records(jobs: $0.jobs, lastFence: $0.lastFence, lastOrdinal: $0.lastOrdinal) } ?? Records()
        for entry in journal { records.apply(entry) }
        return records
    }

    mutating func append(_ entries: [LedgerEntry], isFlushed: Bool) {
        journal += entries
        unflushed = isFlushed ? 0 : unflushed + entries.count
        ghosts = []
    }

    mutating func refuse(_ entries: [LedgerEntry], leavingGhosts: Bool) { ghosts = leavingGhosts ? entries : [] }

    /// Any successful write.
    mutating func probe() { ghosts = [] }

    mutating func compact(_ records: Records) {
        let jobs = records.order.compactMap { records.jobs[$0] }
        snapshot = (jobs, records.lastFence, records.lastOrdinal)
        journal = []
        ghosts = []
        unflushed = 0
    }

    /// What was written and not covered becomes valid.
    /// - Returns: the entries that a restarted broker will find and nobody was told of.
    mutating func awakenGhosts() -> [LedgerEntry] {
        let awake = ghosts
        journal += awake
        ghosts = []
        return awake
    }

    /// A part of what was not flushed is lost.
    mutating func cutPower(random: inout SeededGenerator) {
        guard unflushed > 0 else { return }
        journal.removeLast(min(journal.count, random.below(unflushed + 1)))
        unflushed = 0
    }
}

/// The broker's blob store on the simulated disk.
struct SimulatedStore {
    struct Blob {
        var isTorn = false
        var storedAt: UInt64
    }

    private(set) var blobs: [Content: Blob] = [:]

    /// In the order of their numbers, so that a seed replays.
    var contents: [Content] { blobs.keys.sorted { $0.number < $1.number } }

    subscript(_ content: Content) -> Blob? { blobs[content] }

    /// A blob that is there and whole is not stored again; a damaged one is replaced.
    mutating func put(_ content: Content, now: UInt64) {
        if let blob = blobs[content], !blob.isTorn { return }
        blobs[content] = Blob(storedAt: now)
    }

    mutating func remove(_ content: Content) { blobs[content] = nil }

    mutating func tear(_ content: Content) { blobs[content]?.isTorn = true }
}
