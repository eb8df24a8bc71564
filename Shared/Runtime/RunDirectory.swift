package import Failure
import FoundationEssentials
import Glibc

/// The folder that holds a cluster's ipc sockets on this host, owned by one user and closed to others.
package struct RunDirectory: Sendable, Hashable {
    package let path: String
    /// Equal on two processes exactly when they can reach each other's ipc sockets: boot id and folder, hashed.
    package let hostIdentity: String

    /// Finds the folder (flag, `$ZOETROPE_RUN_DIRECTORY`, `$XDG_RUNTIME_DIR/zoetrope`, `/tmp/zoetrope-<uid>`) and makes it.
    package static func resolve(_ flag: String?) throws(Failure) -> RunDirectory {
        let environment = ProcessInfo.processInfo.environment
        let path =
            flag ?? environment["ZOETROPE_RUN_DIRECTORY"] ?? environment["XDG_RUNTIME_DIR"].map { "\($0)/zoetrope" }
            ?? "/tmp/zoetrope-\(getuid())"
        return try RunDirectory(path: path)
    }

    /// Makes the folder at `path` with mode 0700 where it is missing.
    ///
    /// - Throws: `run_directory_unusable` when it cannot be made, belongs to somebody else, or its path leaves no room
    ///   for a socket name (ipc socket paths end at 107 bytes).
    package init(path: String) throws(Failure) {
        let absolute = path.hasPrefix("/") ? path : "\(FileManager.default.currentDirectoryPath)/\(path)"
        guard absolute.utf8.count <= 70 else {
            throw Failure(
                "run_directory_unusable", "the path \(absolute) is longer than 70 bytes", field: "run-directory",
                remedy: "Choose a shorter one: socket paths end at 107 bytes.")
        }
        do {
            try FileManager.default.createDirectory(
                atPath: absolute, withIntermediateDirectories: true, attributes: [.posixPermissions: 0o700])
        } catch {
            throw Failure(
                "run_directory_unusable", "cannot make \(absolute): \(error)", field: "run-directory",
                remedy: "Name a folder you may write with --run-directory.")
        }
        var status = stat()
        guard stat(absolute, &status) == 0, status.st_uid == getuid() else {
            throw Failure(
                "run_directory_unusable", "\(absolute) belongs to another user", field: "run-directory",
                remedy: "Name a folder of your own with --run-directory.")
        }
        guard status.st_mode & 0o022 == 0 else {
            throw Failure(
                "run_directory_unusable", "others may write to \(absolute) and put sockets of their own there",
                field: "run-directory", remedy: "chmod 700 \(absolute)")
        }
        self.path = absolute
        let boot = (try? String(contentsOfFile: "/proc/sys/kernel/random/boot_id", encoding: .utf8)) ?? ""
        hostIdentity = RunDirectory.fingerprint(
            "\(boot.filter { $0.isHexDigit })|\(status.st_dev)|\(status.st_ino)")
    }

    /// The path of the socket file `name` inside the folder.
    package func socketPath(_ name: String) -> String { "\(path)/\(name)" }

    /// 64-bit FNV-1a in hexadecimal: an identity, not a secret.
    private static func fingerprint(_ text: String) -> String {
        var hash: UInt64 = 0xcbf2_9ce4_8422_2325
        for byte in text.utf8 {
            hash = (hash ^ UInt64(byte)) &* 0x0000_0100_0000_01b3
        }
        return String(hash, radix: 16)
    }
}
