package import Failure
import Foundation
import Glibc
import Ledger

/// A copy of a broker's data directory that a broker can be started on, made while the broker runs or not.
///
/// The ledger first and the blobs after it: what the copy of the ledger refers to is then in the copy of the store, unless
/// the broker removed it in between, and then whatever made it runs again.
package enum Backup {
    /// What was copied.
    package struct Summary: Sendable, Hashable {
        package var jobs: Int
        /// Blobs that the folder lacked, and their bytes.
        package var blobs: Int
        package var bytes: UInt64

        package init(jobs: Int = 0, blobs: Int = 0, bytes: UInt64 = 0) {
            self.jobs = jobs
            self.blobs = blobs
            self.bytes = bytes
        }
    }

    /// - Parameters:
    ///   - data: the broker's data directory.
    ///   - folder: made where it is missing, mode 0700; a folder of an earlier backup is brought up to date, and copies only
    ///     what is new.
    /// - Throws: `backup_failed`, and what the ledger says.
    package static func make(of data: String, in folder: String) throws(Failure) -> Summary {
        let files = FileManager.default
        try attempt("make \(folder)") {
            try files.createDirectory(
                atPath: folder, withIntermediateDirectories: true, attributes: [.posixPermissions: 0o700])
        }
        guard real(data) != real(folder) else {
            throw Failure("backup_failed", "\(folder) is the data directory itself", field: "backup")
        }
        var summary = Summary()
        let temporary = folder + "/ledger.sqlite.new"
        unlink(temporary)
        summary.jobs = try Ledger.backUp(directory: data, to: temporary)
        for place in try shelves(of: data) {
            let target = "\(folder)/blobs/blobs/\(place)"
            try attempt("make \(target)") {
                try files.createDirectory(
                    atPath: target, withIntermediateDirectories: true, attributes: [.posixPermissions: 0o700])
            }
            for name in (try? files.contentsOfDirectory(atPath: "\(data)/blobs/blobs/\(place)")) ?? [] {
                let source = "\(data)/blobs/blobs/\(place)/\(name)"
                guard let size = try copy(source, to: "\(target)/\(name)") else { continue }
                summary.blobs += 1
                summary.bytes += size
            }
        }
        // Blobs and ledger are on disk before the new ledger takes the old one's place.
        sync()
        guard rename(temporary, folder + "/ledger.sqlite") == 0 else {
            throw failed("replace \(folder)/ledger.sqlite", String(cString: strerror(errno)))
        }
        sync()
        return summary
    }

    private static func real(_ path: String) -> String { URL(fileURLWithPath: path).resolvingSymlinksInPath().path }

    private static func shelves(of data: String) throws(Failure) -> [String] {
        let path = "\(data)/blobs/blobs"
        guard FileManager.default.fileExists(atPath: path) else { return [] }
        var names: [String] = []
        try attempt("read \(path)") { names = try FileManager.default.contentsOfDirectory(atPath: path) }
        return names.sorted()
    }

    /// - Returns: the bytes copied; nil for a blob that is there already, or that the broker has removed meanwhile.
    private static func copy(_ source: String, to target: String) throws(Failure) -> UInt64? {
        var status = stat()
        guard stat(source, &status) == 0 else { return nil }
        let size = status.st_size
        if stat(target, &status) == 0, status.st_size == size { return nil }
        let temporary = target + ".new"
        unlink(temporary)
        do {
            try FileManager.default.copyItem(atPath: source, toPath: temporary)
        } catch {
            if access(source, F_OK) != 0 { return nil }
            throw failed("copy \(source)", "\(error)")
        }
        guard rename(temporary, target) == 0 else { throw failed("write \(target)", String(cString: strerror(errno))) }
        return UInt64(size)
    }

    private static func attempt(_ action: String, _ body: () throws -> Void) throws(Failure) {
        do {
            try body()
        } catch {
            throw failed(action, "\(error)")
        }
    }

    private static func failed(_ action: String, _ detail: String) -> Failure {
        Failure(
            "backup_failed", "cannot \(action): \(detail)", field: "backup",
            remedy: "Name a folder with room that this user may write; the backup before this one is as it was.")
    }
}
