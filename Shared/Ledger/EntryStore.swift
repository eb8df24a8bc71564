package import Failure
package import Work

/// Where committed entries go. `Ledger` is the durable one; tests of the broker use others to inject full disks.
package protocol EntryStore: Sendable {
    /// Rises with every opening of the same store.
    var epoch: UInt64 { get }
    /// Whether the journal has grown long enough that `compact` pays.
    var needsCompaction: Bool { get }
    /// The fold of everything committed so far.
    func load() throws(Failure) -> Records
    /// Appends the entries in order, all or none, and returns when they are on disk.
    func commit(_ entries: [LedgerEntry]) async throws(Failure)
    /// Replaces the journal by `records`, which must be the fold of it.
    func compact(_ records: Records) async throws(Failure)
    /// Writes and removes a little, to learn whether writing is possible (again).
    func probe() async throws(Failure)
    /// The name of the cell that this store belongs to, for life.
    ///
    /// - Parameter wanted: what the operator calls it; nil takes the name it has, or makes one.
    /// - Throws: `cell_mismatch` when it was given another name before.
    func cell(named wanted: String?) throws(Failure) -> String
}

extension EntryStore {
    /// For stores that remember nothing.
    package func cell(named wanted: String?) throws(Failure) -> String { wanted ?? "cell" }
}
