import Failure
import Glibc

/// A whole file. Errors: `unreadable_media`.
func fileBytes(_ path: String) throws(Failure) -> [UInt8] {
    guard let file = fopen(path, "rb") else { throw fileFailure("unreadable_media", "read", path) }
    defer { fclose(file) }
    var bytes: [UInt8] = []
    var chunk = [UInt8](repeating: 0, count: 1 << 16)
    while case let count = fread(&chunk, 1, chunk.count, file), count > 0 { bytes += chunk[..<count] }
    guard ferror(file) == 0 else { throw fileFailure("unreadable_media", "read", path) }
    return bytes
}

/// Writes `bytes` beside `path` and renames them over it, so that no reader sees half of them. Errors: `code`.
func replaceFile(_ path: String, with bytes: [UInt8], code: String) throws(Failure) {
    let temporary = temporaryName(beside: path)
    guard let file = fopen(temporary, "wb") else { throw fileFailure(code, "write", path) }
    let isWritten = fwrite(bytes, 1, bytes.count, file) == bytes.count
    let isClosed = fclose(file) == 0
    guard isWritten, isClosed, rename(temporary, path) == 0 else {
        let failure = fileFailure(code, "write", path)
        unlink(temporary)
        throw failure
    }
}

/// A hidden name in the folder of `path`, used by nobody else.
func temporaryName(beside path: String) -> String {
    let slash = path.lastIndex(of: "/").map { path.index(after: $0) } ?? path.startIndex
    return "\(path[..<slash]).\(path[slash...]).\(getpid())-\(UInt32.random(in: 0...(.max))).part"
}

/// Removes a file or a link, never a device or anything else that may stand under the name.
func removeFile(_ path: String) {
    var status = stat()
    guard lstat(path, &status) == 0, [S_IFREG, S_IFLNK].contains(status.st_mode & S_IFMT) else { return }
    unlink(path)
}

private func fileFailure(_ code: String, _ verb: String, _ path: String) -> Failure {
    Failure(
        code, "Cannot \(verb) \(path): \(String(cString: strerror(errno))).", field: "output",
        remedy: "Check that the folder exists, may be written and has room.")
}
