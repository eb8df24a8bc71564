import Failure
import GRDB

/// Runs `body` and turns what SQLite says into a `Failure` that names the file and the way out.
func failing<Value>(at path: String, _ body: () throws -> Value) throws(Failure) -> Value {
    do {
        return try body()
    } catch let failure as Failure {
        throw failure
    } catch let error as DatabaseError {
        throw describe(error, path: path)
    } catch {
        throw corrupt(path, "\(error)")
    }
}

func corrupt(_ path: String, _ detail: String) -> Failure {
    Failure(
        "ledger_corrupt", "the ledger \(path) is damaged: \(detail)", field: "data-directory",
        remedy: "Stop the broker, restore \(path) from a backup, or move it away to start with an empty ledger.")
}

private func describe(_ error: DatabaseError, path: String) -> Failure {
    let detail = error.message ?? "SQLite error \(error.extendedResultCode.rawValue)"
    switch error.resultCode {
    case .SQLITE_CORRUPT, .SQLITE_NOTADB, .SQLITE_FORMAT: return corrupt(path, detail)
    case .SQLITE_FULL, .SQLITE_IOERR:
        return Failure(
            "ledger_full", "the ledger \(path) cannot be written: \(detail)", field: "data-directory",
            remedy: "Free space on its file system; the broker goes on by itself once writing works.",
            retry: .sameWorker)
    case .SQLITE_BUSY, .SQLITE_LOCKED:
        return Failure(
            "ledger_in_use", "another process uses the ledger \(path): \(detail)", field: "data-directory",
            remedy: "Stop the other process or give this broker another --data-directory.")
    default:
        return Failure(
            "ledger_unwritable", "the ledger \(path) cannot be opened or written: \(detail)", field: "data-directory",
            remedy: "Check that this user may write the directory and the files in it.")
    }
}
