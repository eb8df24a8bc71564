import Failure
import Glibc

/// Reading and writing the small text files that hold keys.
enum KeyFile {
    private static let longest = 1 << 20

    /// - Parameter isSecret: refuses a file that anybody but its owner (and root) may read or write.
    /// - Throws: `key_file_unreadable`, `key_file_exposed`.
    static func read(_ path: String, isSecret: Bool) throws(Failure) -> String {
        let descriptor = open(path, O_RDONLY | O_CLOEXEC)
        guard descriptor >= 0 else { throw unreadable(path) }
        defer { close(descriptor) }
        // Of the open file: a path could be exchanged between looking and opening.
        var status = stat()
        guard fstat(descriptor, &status) == 0, status.st_mode & S_IFMT == S_IFREG, status.st_size <= longest else {
            throw Failure("key_file_unreadable", "\(path) is no regular file of reasonable size", field: "key")
        }
        if isSecret {
            // Root may administrate with what belongs to a service's user.
            guard status.st_mode & 0o077 == 0, [geteuid(), 0].contains(status.st_uid) || geteuid() == 0 else {
                let mode = String(status.st_mode & 0o7777, radix: 8)
                throw Failure(
                    "key_file_exposed", "\(path) has mode 0\(mode) and owner \(status.st_uid): others can read it",
                    field: "key",
                    remedy: "If nobody has read it: chmod 600 \(path). If in doubt, make a new key and revoke this one."
                )
            }
        }
        var bytes: [UInt8] = []
        var buffer = [UInt8](repeating: 0, count: 4096)
        while true {
            let count = Glibc.read(descriptor, &buffer, buffer.count)
            if count < 0, errno == EINTR { continue }
            guard count >= 0 else { throw unreadable(path) }
            if count == 0 { break }
            bytes += buffer[..<count]
        }
        return String(decoding: bytes, as: UTF8.self)
    }

    /// Writes a file that must not exist yet.
    static func create(_ path: String, _ text: String, mode: mode_t) throws(Failure) {
        let descriptor = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode)
        guard descriptor >= 0 else {
            if errno == EEXIST {
                throw Failure(
                    "key_file_exists", "\(path) is there already", field: "name",
                    remedy: "Choose another name, or move the old key away.")
            }
            throw Failure("io_error", "cannot create \(path): \(String(cString: strerror(errno)))", field: "directory")
        }
        defer { close(descriptor) }
        // The mode given to open is narrowed by the umask, and must not be wider than asked for.
        fchmod(descriptor, mode)
        try write(text, to: descriptor, path)
    }

    /// Puts a new content in the place of a file in one step, so that a reader sees the old or the new one.
    static func replace(_ path: String, _ text: String, mode: mode_t) throws(Failure) {
        let temporary = "\(path).\(getpid()).new"
        unlink(temporary)
        try create(temporary, text, mode: mode)
        // An administrator who is root must not take a service's file away from it.
        var old = stat()
        if geteuid() == 0, stat(path, &old) == 0 { chown(temporary, old.st_uid, old.st_gid) }
        guard rename(temporary, path) == 0 else {
            let reason = String(cString: strerror(errno))
            unlink(temporary)
            throw Failure("io_error", "cannot replace \(path): \(reason)", field: "authorized-keys")
        }
    }

    private static func write(_ text: String, to descriptor: Int32, _ path: String) throws(Failure) {
        let bytes = Array(text.utf8)
        var done = 0
        while done < bytes.count {
            let count = bytes.withUnsafeBytes { all in
                Glibc.write(descriptor, all.baseAddress?.advanced(by: done), all.count - done)
            }
            if count < 0, errno == EINTR { continue }
            guard count > 0 else {
                throw Failure("io_error", "cannot write \(path): \(String(cString: strerror(errno)))")
            }
            done += count
        }
        guard fsync(descriptor) == 0 else {
            throw Failure("io_error", "cannot flush \(path): \(String(cString: strerror(errno)))")
        }
    }

    private static func unreadable(_ path: String) -> Failure {
        Failure(
            "key_file_unreadable", "cannot read \(path): \(String(cString: strerror(errno)))", field: "key",
            remedy: "Make a key with `zoetrope keys new NAME` and give the path of its NAME.key file.")
    }
}
