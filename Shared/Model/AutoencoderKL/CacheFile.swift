import Failure
import Glibc
import Tensor

/// Convolution caches that wait in a file without a name instead of in memory.
///
/// At 480×720 the caches of all layers together are larger than everything else a decoder holds; each is needed once a
/// chunk, and reading it back takes a small part of the time that the chunk's convolutions take.
final class CacheFile: Sendable {
    private let descriptor: Int32
    private let directory: String

    /// Opens a file in `directory` that vanishes with the process. Fails with `cache_file_unusable`.
    init(directory: String) throws(Failure) {
        self.directory = directory
        var template = Array("\(directory)/zoetrope-cache-XXXXXX".utf8CString)
        descriptor = mkstemp(&template)
        guard descriptor >= 0 else { throw Self.failure("make a file in \(directory)", directory) }
        _ = fcntl(descriptor, F_SETFD, FD_CLOEXEC)
        unlink(template)
    }

    deinit { close(descriptor) }

    /// A frame that lies in the file.
    struct Place: Sendable {
        let offset: Int
        let shape: [Int]
        let dtype: DType
        var byteCount: Int { shape.reduce(1, *) * dtype.byteCount }
    }

    /// Writes a frame at `offset`.
    func write(_ frame: Tensor, at offset: Int) throws(Failure) -> Place {
        let wrote = frame.withUnsafeBytes { bytes -> Bool in
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
        guard wrote else { throw Self.failure("write a cache in \(directory)", directory) }
        return Place(offset: offset, shape: frame.shape, dtype: frame.dtype)
    }

    func read(_ place: Place) throws(Failure) -> Tensor {
        var frame = Tensor(uninitialized: place.shape, dtype: place.dtype)
        let hasRead = frame.withUnsafeMutableBytes { bytes -> Bool in
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
        guard hasRead else { throw Self.failure("read a cache in \(directory)", directory) }
        return frame
    }

    private static func failure(_ action: String, _ directory: String) -> Failure {
        Failure(
            "cache_file_unusable", "cannot \(action): \(String(cString: strerror(errno)))", field: "memory-limit",
            remedy: "Give the decoder more memory, or a TMPDIR with room for its caches.", retry: .otherWorker)
    }
}
