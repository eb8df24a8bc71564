package import Failure
import Glibc

/// Bytes that wait in a file without a name instead of in memory: written once from front to back, then read as a tensor.
/// The file vanishes with the last tensor over it, or with the process.
package struct SpillFile: ~Copyable {
    private let descriptor: Int32
    private let directory: String
    /// Bytes written.
    package private(set) var byteCount = 0

    /// Opens a file in `directory`. Fails with `cache_file_unusable`.
    package init(directory: String) throws(Failure) {
        self.directory = directory
        var template = Array("\(directory)/zoetrope-spill-XXXXXX".utf8CString)
        descriptor = mkstemp(&template)
        guard descriptor >= 0 else { throw Self.failure("make a file in \(directory)") }
        _ = fcntl(descriptor, F_SETFD, FD_CLOEXEC)
        unlink(template)
    }

    deinit { if descriptor >= 0 { close(descriptor) } }

    /// Appends a tensor's bytes. Fails with `cache_file_unusable` when there is no room.
    package mutating func append(_ tensor: Tensor) throws(Failure) {
        let start = byteCount, descriptor = descriptor
        let wrote = tensor.withUnsafeBytes { bytes -> Bool in
            var done = 0
            while done < bytes.count {
                let count = pwrite(
                    descriptor, bytes.baseAddress?.advanced(by: done), bytes.count - done, off_t(start + done))
                if count < 0, errno == EINTR { continue }
                if count <= 0 { return false }
                done += count
            }
            return true
        }
        guard wrote else { throw Self.failure("write results into \(directory)") }
        byteCount += tensor.byteCount
    }

    /// All bytes as a tensor of `shape`, which they fill exactly. Fails with `cache_file_unusable`.
    package consuming func tensor(shape: [Int], dtype: DType) throws(Failure) -> Tensor {
        precondition(shape.reduce(1, *) * dtype.byteCount == byteCount, "the bytes fill the shape")
        guard byteCount > 0 else { return Tensor(zeros: shape, dtype: dtype) }
        guard let address = mmap(nil, byteCount, PROT_READ, MAP_PRIVATE, descriptor, 0), address != MAP_FAILED else {
            throw Self.failure("map results in \(directory)")
        }
        let storage = TensorStorage(adopting: address, byteCount: byteCount, isWritable: false, isMappedFile: true) {
            munmap($0, $1)
        }
        return Tensor(storage: storage, byteOffset: 0, shape: shape, dtype: dtype)
    }

    private static func failure(_ action: String) -> Failure {
        Failure(
            "cache_file_unusable", "cannot \(action): \(String(cString: strerror(errno)))", field: "memory-limit",
            remedy: "Give the decoder more memory, or a TMPDIR with room.", retry: .otherWorker)
    }
}
