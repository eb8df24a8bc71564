import Failure
import FoundationEssentials

#if canImport(Glibc)
import Glibc
#elseif canImport(Musl)
import Musl
#endif

/// Files and folders of a checkpoint that is being made.
enum ModelFileSystem {
    /// The names of the regular files (or links to such) in a folder, sorted; empty when it cannot be listed.
    static func files(in folder: String) -> [String] {
        let names = (try? FileManager.default.contentsOfDirectory(atPath: folder)) ?? []
        return names.filter { FileIdentity(path: "\(folder)/\($0)") != nil }.sorted()
    }

    static func isFolder(_ path: String) -> Bool {
        var status = stat()
        return stat(path, &status) == 0 && status.st_mode & S_IFMT == S_IFDIR
    }

    static func exists(_ path: String) -> Bool {
        var status = stat()
        return lstat(path, &status) == 0
    }

    static func makeFolder(_ path: String) throws(Failure) {
        do {
            try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
        } catch {
            throw unwritable(path, "cannot make the folder \(path)")
        }
    }

    static func write(_ text: String, to path: String) throws(Failure) {
        do {
            try Data(text.utf8).write(to: URL(filePath: path))
        } catch {
            throw unwritable(path, "cannot write \(path)")
        }
    }

    /// Gives the file `source` a second name, which costs no space, or copies it where that is impossible or not wanted.
    static func place(_ source: String, at target: String, copying: Bool) throws(Failure) {
        // The caches of the Hugging Face hub consist of symbolic links, whose targets are meant.
        let real = realpath(source, nil)
        defer { free(real) }
        if !copying, let real, link(real, target) == 0 { return }
        do {
            try FileManager.default.copyItem(atPath: real.map { String(cString: $0) } ?? source, toPath: target)
        } catch {
            throw unwritable(target, "cannot copy \(source) to \(target)")
        }
    }

    static func remove(_ path: String) { try? FileManager.default.removeItem(atPath: path) }

    static func rename(_ path: String, to target: String) throws(Failure) {
        #if canImport(Glibc)
        let result = Glibc.rename(path, target)
        #else
        let result = Musl.rename(path, target)
        #endif
        guard result == 0 else { throw unwritable(target, "cannot rename \(path) to \(target)") }
    }

    /// Bytes that this user may still write where `path` is; nil when the system does not say.
    static func freeBytes(at path: String) -> Int? {
        var status = statvfs()
        guard statvfs(path, &status) == 0 else { return nil }
        return Int(status.f_bavail) * Int(status.f_frsize)
    }

    private static func unwritable(_ path: String, _ what: String) -> Failure {
        Failure(
            "unwritable_file", "\(what): \(String(cString: strerror(errno)))", field: path,
            remedy: "Check the folder's permissions and free space.")
    }
}
