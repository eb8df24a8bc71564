import FoundationEssentials
import Glibc
import Runtime

/// Socket files of workers that were killed: nobody else removes them.
enum LeftoverSockets {
    /// Removes data and memory sockets that nobody listens on. Files younger than a minute stay, because a worker that is just
    /// starting has its file before it listens.
    static func remove(from runDirectory: RunDirectory) {
        let names = (try? FileManager.default.contentsOfDirectory(atPath: runDirectory.path)) ?? []
        for name in names where name.hasPrefix("data-") || name.hasPrefix("memory-") {
            let path = runDirectory.socketPath(name)
            var status = stat()
            guard lstat(path, &status) == 0, time(nil) - status.st_mtim.tv_sec > 60, isRefused(path) else { continue }
            unlink(path)
        }
    }

    private static func isRefused(_ path: String) -> Bool {
        let descriptor = socket(AF_UNIX, Int32(SOCK_STREAM.rawValue), 0)
        guard descriptor >= 0 else { return false }
        defer { close(descriptor) }
        var address = sockaddr_un()
        address.sun_family = sa_family_t(AF_UNIX)
        guard path.utf8.count < MemoryLayout.size(ofValue: address.sun_path) else { return false }
        withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: path.utf8) }
        let length = socklen_t(MemoryLayout<sockaddr_un>.size)
        let result = withUnsafePointer(to: &address) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { connect(descriptor, $0, length) }
        }
        return result != 0 && errno == ECONNREFUSED
    }
}
