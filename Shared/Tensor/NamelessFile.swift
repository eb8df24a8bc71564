package import Failure
import Glibc

/// A file without a name, for bytes that would not fit into memory: it vanishes with the last who uses it, or with the
/// process.
package final class NamelessFile: Sendable {
    private let descriptor: Int32
    private let directory: String

    /// Opens a file in `directory`. Fails with `cache_file_unusable`.
    package init(directory: String) throws(Failure) {
        self.directory = directory
        var template = Array("\(directory)/zoetrope-spill-XXXXXX".utf8CString)
        descriptor = mkstemp(&template)
        guard descriptor >= 0 else { throw Self.failure("make a file in \(directory)", directory) }
        _ = fcntl(descriptor, F_SETFD, FD_CLOEXEC)
        unlink(template)
    }

    deinit { close(descriptor) }

    /// A tensor that lies in the file.
    package struct Place: Sendable {
        package let offset: Int
        package let shape: [Int]
        package let dtype: DType
        package var byteCount: Int { shape.reduce(1, *) * dtype.byteCount }
    }

    /// Writes a tensor's bytes at `offset`. Fails with `cache_file_unusable` when there is no room.
    package func write(_ tensor: Tensor, at offset: Int) throws(Failure) -> Place {
        let wrote = tensor.withUnsafeBytes { bytes -> Bool in
            var done = 0
            while done < bytes.count {
                let count = pwrite(
                    descriptor, bytes.baseAddress?.advanced(by: done), bytes.count - done, off_t(offset + done))
                if count < 0, errno == EINTR { continue }
                if count <= 0 { return false }
                done += count
            }
            return true
        }
        guard wrote else { throw Self.failure("write into \(directory)", directory) }
        return Place(offset: offset, shape: tensor.shape, dtype: tensor.dtype)
    }

    /// Reads a tensor into memory. Fails with `cache_file_unusable`.
    package func read(_ place: Place) throws(Failure) -> Tensor {
        var tensor = Tensor(uninitialized: place.shape, dtype: place.dtype)
        let hasRead = tensor.withUnsafeMutableBytes { bytes -> Bool in
            var done = 0
            while done < bytes.count {
                let count = pread(
                    descriptor, bytes.baseAddress?.advanced(by: done), bytes.count - done, off_t(place.offset + done))
                if count < 0, errno == EINTR { continue }
                if count <= 0 { return false }
                done += count
            }
            return true
        }
        guard hasRead else { throw Self.failure("read from \(directory)", directory) }
        return tensor
    }

    /// The first `byteCount` bytes, read when somebody looks at them. Fails with `cache_file_unusable`.
    func map(byteCount: Int) throws(Failure) -> TensorStorage {
        guard let address = mmap(nil, byteCount, PROT_READ, MAP_PRIVATE, descriptor, 0), address != MAP_FAILED else {
            throw Self.failure("map a file in \(directory)", directory)
        }
        return TensorStorage(adopting: address, byteCount: byteCount, isWritable: false, isMappedFile: true) {
            munmap($0, $1)
        }
    }

    private static func failure(_ action: String, _ directory: String) -> Failure {
        Failure(
            "cache_file_unusable", "cannot \(action): \(String(cString: strerror(errno)))", field: "memory-limit",
            remedy: "Give the decoder more memory, or a TMPDIR with room.", retry: .otherWorker)
    }
}
