package import Failure
import Foundation
import GRDB
import Synchronization
package import Work

/// The broker's durable memory: an append-only journal in SQLite, and a snapshot of the jobs so that it stays short.
///
/// SQLite runs in WAL mode with `synchronous=FULL`: a commit that returned survives a power cut. GRDB resets the pragma
/// while it opens a WAL database and SQLite ignores it inside a transaction, so it is set after opening, outside one,
/// and read back; a ledger that is not FULL refuses to open (bus.md §0.5).
///
/// One process at a time holds the ledger (a lock file), and every commit checks that its epoch is still the newest.
///
/// ```swift
/// let ledger = try Ledger(directory: "/var/lib/zoetrope")
/// let records = try ledger.load()
/// try await ledger.commit(step.entries)
/// ```
package final class Ledger: EntryStore {
    package let epoch: UInt64
    /// Path of the database file.
    package let path: String

    private let database: DatabaseQueue
    private let lock: FileLock
    private let journalLength: Mutex<Int>
    /// Entries in the journal beyond which a snapshot is worth its cost.
    private let compactionThreshold: Int

    /// Opens or creates the ledger in `directory`, checks its integrity and begins a new epoch.
    /// - Parameter maximumBytes: the database refuses to grow beyond this (`ledger_full`); nil = no limit but the disk's.
    /// - Throws: `ledger_in_use`, `ledger_corrupt`, `ledger_full`, `ledger_unwritable`, `ledger_not_durable`.
    package init(
        directory: String, compactionThreshold: Int = 4096, maximumBytes: Int? = nil
    ) throws(Failure) {
        let path = directory + "/ledger.sqlite"
        self.path = path
        self.compactionThreshold = compactionThreshold
        try Self.createDirectory(directory)
        lock = try FileLock(path: directory + "/ledger.lock")
        let length: Int
        (database, epoch, length) = try failing(at: path) {
            var configuration = Configuration()
            configuration.label = "zoetrope.ledger"
            configuration.journalMode = .wal
            // A backup or an inspecting sqlite3 may hold the file for a moment.
            configuration.busyMode = .timeout(5)
            let database = try DatabaseQueue(path: path, configuration: configuration)
            try Self.demandDurability(database, path: path)
            try Self.checkIntegrity(database, path: path)
            try ledgerMigrator().migrate(database)
            if let maximumBytes { try Self.limit(database, toBytes: maximumBytes) }
            let epoch = try database.write { try LedgerTables.beginEpoch($0) }
            let length = try database.read { try LedgerTables.journalLength($0) }
            return (database, epoch, length)
        }
        journalLength = Mutex(length)
    }

    package var needsCompaction: Bool { journalLength.withLock { $0 } >= compactionThreshold }

    package func load() throws(Failure) -> Records {
        try failing(at: path) { try database.read { try LedgerTables.load($0) } }
    }

    package func commit(_ entries: [LedgerEntry]) async throws(Failure) {
        guard !entries.isEmpty else { return }
        let rows = try failing(at: path) { try entries.map(JournalRow.init) }
        let epoch = epoch
        try await write { database in
            try LedgerTables.checkEpoch(epoch, in: database)
            for (entry, row) in zip(entries, rows) {
                try LedgerTables.append(row, of: entry, epoch: epoch, to: database)
            }
        }
        journalLength.withLock { $0 += entries.count }
    }

    package func compact(_ records: Records) async throws(Failure) {
        let epoch = epoch
        try await write { database in
            try LedgerTables.checkEpoch(epoch, in: database)
            try LedgerTables.compact(records, in: database)
        }
        journalLength.withLock { $0 = 0 }
    }

    package func probe() async throws(Failure) {
        try await write { try LedgerTables.probe($0) }
    }

    /// A name that was made up may be replaced by a given one (ids of older jobs then tell nothing of the cell); a given
    /// one never changes.
    package func cell(named wanted: String?) throws(Failure) -> String {
        try failing(at: path) {
            try database.write { database in
                let known = try LedgerTables.cell(database)
                if let known, wanted == nil || wanted == known.name {
                    // From now on it is the operator's.
                    if wanted != nil, !known.wasGiven {
                        try LedgerTables.setCell(known.name, wasGiven: true, in: database)
                    }
                    return known.name
                }
                if let known, let wanted, known.wasGiven {
                    throw Failure(
                        "cell_mismatch", "the ledger in \(path) belongs to cell \(known.name), not to \(wanted)",
                        field: "cell", remedy: "Give the right --data-directory, or leave --cell out.")
                }
                let name = wanted ?? Self.inventedName()
                try LedgerTables.setCell(name, wasGiven: wanted != nil, in: database)
                return name
            }
        }
    }

    private static func inventedName() -> String {
        "cell-" + String(UInt32.random(in: 0x1000_0000 ... .max), radix: 16)
    }

    /// What SQLite says about itself: `synchronous` (2 = FULL) and the journal mode, for the start-up log.
    package func durability() throws(Failure) -> (synchronous: Int, journalMode: String) {
        try failing(at: path) { try database.read { try Self.readDurability($0) } }
    }

    /// Closes the database after what is under way, so that the file is complete without its WAL, and lets another
    /// process have it. Later calls fail.
    package func close() throws(Failure) {
        try failing(at: path) { try database.close() }
        lock.release()
    }

    /// Runs a write on the database's own thread; never abandoned half-way by a cancelled task.
    private func write(_ body: @escaping @Sendable (Database) throws -> Void) async throws(Failure) {
        let result: Result<Void, any Error> = await withCheckedContinuation { continuation in
            database.asyncWrite(body) { _, result in continuation.resume(returning: result) }
        }
        try failing(at: path) { try result.get() }
    }

    // MARK: Opening

    private static func createDirectory(_ directory: String) throws(Failure) {
        do {
            try FileManager.default.createDirectory(
                atPath: directory, withIntermediateDirectories: true, attributes: [.posixPermissions: 0o700])
        } catch {
            throw Failure(
                "ledger_unwritable", "cannot create the data directory \(directory): \(error.localizedDescription)",
                field: "data-directory", remedy: "Name a directory that this user may write, with --data-directory.")
        }
    }

    private static func demandDurability(_ database: DatabaseQueue, path: String) throws {
        let (synchronous, mode) = try database.writeWithoutTransaction { database in
            try database.execute(sql: "PRAGMA synchronous = FULL")
            return try readDurability(database)
        }
        guard synchronous == 2, mode == "wal" else {
            throw Failure(
                "ledger_not_durable",
                "SQLite opened \(path) with synchronous=\(synchronous) and journal_mode=\(mode), not FULL and wal",
                field: "data-directory", remedy: "Keep the data directory on a local file system that supports WAL.")
        }
    }

    private static func readDurability(_ database: Database) throws -> (synchronous: Int, journalMode: String) {
        let synchronous = try Int.fetchOne(database, sql: "PRAGMA synchronous") ?? -1
        let mode = try String.fetchOne(database, sql: "PRAGMA journal_mode") ?? ""
        return (synchronous, mode)
    }

    private static func checkIntegrity(_ database: DatabaseQueue, path: String) throws {
        let report = try database.read { try String.fetchAll($0, sql: "PRAGMA integrity_check(3)") }
        guard report == ["ok"] else {
            throw corrupt(path, report.joined(separator: "; "))
        }
    }

    private static func limit(_ database: DatabaseQueue, toBytes bytes: Int) throws {
        try database.writeWithoutTransaction { database in
            let pageSize = max(1, try Int.fetchOne(database, sql: "PRAGMA page_size") ?? 4096)
            try database.execute(sql: "PRAGMA max_page_count = \(max(1, bytes / pageSize))")
        }
    }
}
