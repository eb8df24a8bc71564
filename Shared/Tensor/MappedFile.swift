package import Failure
import Glibc

/// Maps whole files into memory, read-only.
package enum MappedFile {
    /// The bytes of the file as read-only storage; unmapped when the last tensor over it goes.
    /// Failure: `unreadable_file`.
    package static func storage(path: String) throws(Failure) -> TensorStorage {
        let descriptor = open(path, O_RDONLY | O_CLOEXEC)
        guard descriptor >= 0 else { throw failure(path, "open") }
        defer { close(descriptor) }
        var status = stat()
        guard fstat(descriptor, &status) == 0 else { throw failure(path, "stat") }
        guard status.st_mode & S_IFMT == S_IFREG else {
            throw Failure("unreadable_file", "\(path) is not a regular file", field: path)
        }
        let byteCount = Int(status.st_size)
        if byteCount == 0 { return TensorStorage(byteCount: 0) }
        guard let address = mmap(nil, byteCount, PROT_READ, MAP_PRIVATE, descriptor, 0), address != MAP_FAILED else {
            throw failure(path, "map")
        }
        return TensorStorage(adopting: address, byteCount: byteCount, isWritable: false, isMappedFile: true) {
            address, byteCount in
            munmap(address, byteCount)
        }
    }

    private static func failure(_ path: String, _ action: String) -> Failure {
        Failure(
            "unreadable_file", "cannot \(action) \(path): \(String(cString: strerror(errno)))", field: path,
            remedy: "Check that the file exists and that this user may read it.")
    }
}
