import Bus
import Failure
import Glibc
import Logging

/// Notices that the file of authorised keys was changed.
struct KeyWatch {
    private let path: String
    private var seen: Stamp?

    private struct Stamp: Equatable {
        var inode: UInt64
        var size: Int64
        var seconds: Int
        var nanoseconds: Int
    }

    init(path: String) {
        self.path = path
        seen = Self.stamp(of: path)
    }

    /// The new content after a change, nil without one. A file that cannot be read changes nothing: a slip of the pen
    /// must not shut a whole cluster out. It is tried again after its next change.
    mutating func poll(_ logger: Logger) -> AuthorizedKeys? {
        let now = Self.stamp(of: path)
        guard now != seen else { return nil }
        seen = now
        do throws(Failure) {
            return try AuthorizedKeys(file: path)
        } catch {
            logger.error("the authorised keys stay as they were: \(error)")
            return nil
        }
    }

    private static func stamp(of path: String) -> Stamp? {
        var status = stat()
        guard stat(path, &status) == 0 else { return nil }
        return Stamp(
            inode: UInt64(status.st_ino), size: Int64(status.st_size), seconds: status.st_mtim.tv_sec,
            nanoseconds: status.st_mtim.tv_nsec)
    }
}
