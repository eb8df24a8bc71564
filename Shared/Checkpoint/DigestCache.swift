import Crypto
import Failure
import FoundationEssentials

/// SHA-256 of files, remembered under `$XDG_CACHE_HOME/zoetrope/digests` or `~/.cache/zoetrope/digests`.
///
/// One small file a path, so that processes starting together need no lock. A cache that cannot be written is no error.
enum DigestCache {
    private static let chunkByteCount = 1 << 20

    /// Hex SHA-256 of the file at `path`.
    static func digest(of path: String) throws(Failure) -> String {
        guard let identity = FileIdentity(path: path) else { throw unreadable(path) }
        let entry = entryPath(for: path)
        let stamp = "\(identity.byteCount) \(identity.modifiedNanoseconds) "
        if let entry, let bytes = try? Data(contentsOf: URL(filePath: entry)) {
            let line = String(decoding: bytes, as: UTF8.self)
            if line.hasPrefix(stamp), line.count == stamp.count + 64 { return String(line.dropFirst(stamp.count)) }
        }
        let digest = try hash(path)
        // A file that changed while it was read must not be remembered under either identity.
        if let entry, FileIdentity(path: path) == identity { remember(stamp + digest, at: entry) }
        return digest
    }

    /// Reads the file itself, whatever is remembered; `progress` is told the bytes of each piece.
    static func hash(_ path: String, progress: (Int) -> Void = { _ in }) throws(Failure) -> String {
        guard let stream = InputFile(path: path) else { throw unreadable(path) }
        var hasher = SHA256()
        while true {
            guard let chunk = stream.read(chunkByteCount) else { throw unreadable(path) }
            if chunk.isEmpty { break }
            hasher.update(data: chunk)
            progress(chunk.count)
        }
        return hasher.finalize().hexadecimal
    }

    private static func unreadable(_ path: String) -> Failure {
        Failure(
            "model_config_invalid", "\(path) cannot be read.", field: path,
            remedy: "Check that the file is there and readable.")
    }

    private static func entryPath(for path: String) -> String? {
        let environment = ProcessInfo.processInfo.environment
        let absolute = path.hasPrefix("/") ? path : FileManager.default.currentDirectoryPath + "/" + path
        let name = SHA256.hash(data: Data(absolute.utf8)).hexadecimal
        if let base = environment["XDG_CACHE_HOME"], base.hasPrefix("/") { return "\(base)/zoetrope/digests/\(name)" }
        guard let home = environment["HOME"], home.hasPrefix("/") else { return nil }
        return "\(home)/.cache/zoetrope/digests/\(name)"
    }

    private static func remember(_ line: String, at entry: String) {
        let folder = String(entry[..<(entry.lastIndex(of: "/") ?? entry.endIndex)])
        try? FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
        try? Data(line.utf8).write(to: URL(filePath: entry), options: .atomic)
    }
}

extension Digest {
    /// Lower-case hexadecimal.
    var hexadecimal: String {
        let digits = Array("0123456789abcdef".utf8)
        return String(decoding: flatMap { [digits[Int($0 >> 4)], digits[Int($0 & 15)]] }, as: UTF8.self)
    }
}
