package import Failure
import Foundation
import GRDB
import Work

extension Ledger {
    /// Writes a copy of the ledger in `directory` to a new file, in one piece and checked, whether a broker has it open or
    /// not. Whoever writes meanwhile is not held up.
    ///
    /// - Returns: how many jobs are in it.
    /// - Throws: `ledger_absent` where there is none, `ledger_corrupt` for a source or copy that is damaged,
    ///   `ledger_full` and `ledger_unwritable` for a destination that cannot be written.
    @discardableResult
    package static func backUp(directory: String, to destination: String) throws(Failure) -> Int {
        let path = directory + "/ledger.sqlite"
        guard FileManager.default.fileExists(atPath: path) else {
            throw Failure(
                "ledger_absent", "there is no ledger in \(directory)", field: "data-directory",
                remedy: "Name the broker's data directory with --data-directory.")
        }
        return try failing(at: destination) {
            var configuration = Configuration()
            configuration.readonly = true
            configuration.busyMode = .timeout(5)
            let source = try DatabaseQueue(path: path, configuration: configuration)
            let copy = try DatabaseQueue(path: destination)
            try source.backup(to: copy)
            try source.close()
            let report = try copy.read { try String.fetchAll($0, sql: "PRAGMA integrity_check(3)") }
            guard report == ["ok"] else { throw corrupt(destination, report.joined(separator: "; ")) }
            // Reads every entry, and with it every checksum.
            let jobs = try copy.read { try LedgerTables.load($0) }.order.count
            // A file without a log beside it, whatever SQLite makes of it next.
            try copy.writeWithoutTransaction { try $0.execute(sql: "PRAGMA journal_mode = DELETE") }
            try copy.close()
            return jobs
        }
    }
}
