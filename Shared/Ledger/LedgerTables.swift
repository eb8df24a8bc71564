import Failure
import Foundation
import GRDB
import Work

/// The schema, one migration per released change.
func ledgerMigrator() -> DatabaseMigrator {
    var migrator = DatabaseMigrator()
    migrator.registerMigration("journal, snapshot, counters, idempotency keys") { database in
        try database.execute(
            sql: """
                CREATE TABLE journal (
                    seq INTEGER PRIMARY KEY AUTOINCREMENT,
                    epoch INTEGER NOT NULL,
                    kind TEXT NOT NULL,
                    job TEXT NOT NULL,
                    body TEXT NOT NULL,
                    checksum INTEGER NOT NULL
                );
                CREATE TABLE job (id TEXT PRIMARY KEY, body TEXT NOT NULL, checksum INTEGER NOT NULL) WITHOUT ROWID;
                CREATE TABLE counter (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
                CREATE TABLE idempotency (
                    tenant TEXT NOT NULL,
                    key TEXT NOT NULL,
                    job TEXT NOT NULL,
                    PRIMARY KEY (tenant, key)
                ) WITHOUT ROWID;
                CREATE INDEX idempotency_job ON idempotency (job);
                """)
    }
    return migrator
}

/// An entry or a job as JSON with a checksum: SQLite does not notice a flipped bit inside a value.
struct JournalRow: Sendable {
    var body: String
    var checksum: Int64

    init(_ value: some Encodable) throws {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
        body = String(decoding: try encoder.encode(value), as: UTF8.self)
        checksum = Self.checksum(of: body)
    }

    static func decode<Value: Decodable>(_ row: Row, as type: Value.Type, at place: String) throws -> Value {
        let body: String = row["body"]
        guard row["checksum"] == checksum(of: body) else {
            throw DatabaseError(resultCode: .SQLITE_CORRUPT, message: "the checksum of \(place) is wrong")
        }
        return try JSONDecoder().decode(type, from: Data(body.utf8))
    }

    /// FNV-1a, 64 bits.
    private static func checksum(of text: String) -> Int64 {
        var hash: UInt64 = 0xcbf2_9ce4_8422_2325
        for byte in text.utf8 { hash = (hash ^ UInt64(byte)) &* 0x0000_0100_0000_01b3 }
        return Int64(bitPattern: hash)
    }
}

/// The statements, each inside a transaction of its caller.
enum LedgerTables {
    static func beginEpoch(_ database: Database) throws -> UInt64 {
        let epoch = try counter("epoch", in: database) + 1
        try setCounter("epoch", to: epoch, in: database)
        return epoch
    }

    /// A broker that was thought dead and replaced must not write any more.
    static func checkEpoch(_ epoch: UInt64, in database: Database) throws {
        let newest = try counter("epoch", in: database)
        guard newest == epoch else {
            throw Failure(
                "ledger_superseded", "this broker opened the ledger as epoch \(epoch), it is now \(newest)",
                remedy: "Stop this broker: a newer one serves the same ledger.")
        }
    }

    static func journalLength(_ database: Database) throws -> Int {
        try Int.fetchOne(database, sql: "SELECT COUNT(*) FROM journal") ?? 0
    }

    static func append(_ row: JournalRow, of entry: LedgerEntry, epoch: UInt64, to database: Database) throws {
        let insert = try database.cachedStatement(
            sql: "INSERT INTO journal (epoch, kind, job, body, checksum) VALUES (?, ?, ?, ?, ?)")
        try insert.execute(arguments: [Int64(bitPattern: epoch), entry.kind, entry.job, row.body, row.checksum])
        switch entry {
        case .jobAccepted(let acceptance) where !acceptance.key.key.isEmpty:
            // The second line of defence behind the broker's own check: a second job for a key cannot be written.
            try database.execute(
                sql: "INSERT INTO idempotency (tenant, key, job) VALUES (?, ?, ?)",
                arguments: [acceptance.key.tenant, acceptance.key.key, acceptance.job])
        case .jobForgotten(let job):
            try database.execute(sql: "DELETE FROM idempotency WHERE job = ?", arguments: [job])
        default: break
        }
    }

    static func load(_ database: Database) throws -> Records {
        let jobs = try Row.fetchAll(database, sql: "SELECT id, body, checksum FROM job").map { row in
            try JournalRow.decode(row, as: JobRecord.self, at: "job \(row["id"] ?? "")")
        }
        var records = Records(
            jobs: jobs, lastFence: try counter("last_fence", in: database),
            lastOrdinal: try counter("last_ordinal", in: database))
        let entries = try Row.fetchCursor(database, sql: "SELECT seq, body, checksum FROM journal ORDER BY seq")
        while let row = try entries.next() {
            let number: Int64 = row["seq"]
            records.apply(try JournalRow.decode(row, as: LedgerEntry.self, at: "journal entry \(number)"))
        }
        return records
    }

    /// Moves what the journal says into the snapshot: only the jobs it names have changed since the last one.
    static func compact(_ records: Records, in database: Database) throws {
        for id in try String.fetchAll(database, sql: "SELECT DISTINCT job FROM journal") {
            if let job = records.jobs[id] {
                let row = try JournalRow(job)
                try database.execute(
                    sql: "INSERT OR REPLACE INTO job (id, body, checksum) VALUES (?, ?, ?)",
                    arguments: [id, row.body, row.checksum])
            } else {
                try database.execute(sql: "DELETE FROM job WHERE id = ?", arguments: [id])
            }
        }
        try setCounter("last_fence", to: records.lastFence, in: database)
        try setCounter("last_ordinal", to: records.lastOrdinal, in: database)
        try database.execute(sql: "DELETE FROM journal")
    }

    static func probe(_ database: Database) throws {
        try setCounter("probe", to: try counter("probe", in: database) &+ 1, in: database)
    }

    /// The cell's name and whether the operator gave it; nil in a ledger that has none yet. It is part of the name of a
    /// counter, which is 1 when it was given: ledgers from before there were cells need no other schema.
    static func cell(_ database: Database) throws -> (name: String, wasGiven: Bool)? {
        let row = try Row.fetchOne(database, sql: "SELECT name, value FROM counter WHERE name LIKE 'cell %'")
        guard let row else { return nil }
        let name: String = row["name"]
        let wasGiven: Int64 = row["value"]
        return (String(name.dropFirst("cell ".count)), wasGiven == 1)
    }

    static func setCell(_ name: String, wasGiven: Bool, in database: Database) throws {
        try database.execute(sql: "DELETE FROM counter WHERE name LIKE 'cell %'")
        try setCounter("cell \(name)", to: wasGiven ? 1 : 0, in: database)
    }

    private static func counter(_ name: String, in database: Database) throws -> UInt64 {
        let value = try Int64.fetchOne(database, sql: "SELECT value FROM counter WHERE name = ?", arguments: [name])
        return UInt64(bitPattern: value ?? 0)
    }

    private static func setCounter(_ name: String, to value: UInt64, in database: Database) throws {
        try database.execute(
            sql: "INSERT OR REPLACE INTO counter (name, value) VALUES (?, ?)",
            arguments: [name, Int64(bitPattern: value)])
    }
}
