import Failure
import Glibc
import Synchronization

/// An advisory lock on a file, held until it is released, the object goes or the process dies, however it dies.
final class FileLock: Sendable {
    private let descriptor: Mutex<Int32?>

    /// - Throws: `ledger_in_use` when another process holds it, `ledger_unwritable` when the file cannot be opened.
    init(path: String) throws(Failure) {
        let descriptor = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0o600)
        guard descriptor >= 0 else {
            throw Failure(
                "ledger_unwritable", "cannot open \(path): \(String(cString: strerror(errno)))",
                field: "data-directory",
                remedy: "Name a directory that this user may write, with --data-directory.")
        }
        guard flock(descriptor, LOCK_EX | LOCK_NB) == 0 else {
            close(descriptor)
            throw Failure(
                "ledger_in_use", "another broker holds \(path)", field: "data-directory",
                remedy: "Stop the other broker or give this one another --data-directory.")
        }
        self.descriptor = Mutex(descriptor)
    }

    deinit { release() }

    func release() {
        descriptor.withLock { held in
            if let held {
                // A child that was forked just now has the descriptor too until it execs: closing ours would not unlock.
                flock(held, LOCK_UN)
                close(held)
            }
            held = nil
        }
    }
}
