#if canImport(Glibc)
import Glibc
#elseif canImport(Musl)
import Musl
#endif

/// What tells an unchanged file from a changed one without reading it.
struct FileIdentity: Equatable {
    let byteCount: Int
    let modifiedNanoseconds: Int

    /// Follows symbolic links, as the caches of the Hugging Face hub consist of them; nil when there is no such file.
    init?(path: String) {
        var status = stat()
        guard stat(path, &status) == 0, status.st_mode & S_IFMT == S_IFREG else { return nil }
        byteCount = Int(status.st_size)
        modifiedNanoseconds = Int(status.st_mtim.tv_sec) * 1_000_000_000 + Int(status.st_mtim.tv_nsec)
    }
}
