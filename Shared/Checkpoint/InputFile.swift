import FoundationEssentials

#if canImport(Glibc)
import Glibc
#elseif canImport(Musl)
import Musl
#endif

/// A file read from front to back in pieces, so that a checkpoint larger than memory can be hashed.
final class InputFile {
    private let descriptor: CInt

    init?(path: String) {
        descriptor = open(path, O_RDONLY | O_CLOEXEC)
        if descriptor < 0 { return nil }
    }

    deinit { close(descriptor) }

    /// Up to `count` bytes; empty at the end of the file, nil on an error.
    func read(_ count: Int) -> Data? {
        var data = Data(count: count)
        let received = data.withUnsafeMutableBytes { buffer -> Int in
            while true {
                let result = Self.readOnce(descriptor, buffer)
                if result >= 0 || errno != EINTR { return result }
            }
        }
        return received < 0 ? nil : data.prefix(received)
    }

    private static func readOnce(_ descriptor: CInt, _ buffer: UnsafeMutableRawBufferPointer) -> Int {
        #if canImport(Glibc)
        Glibc.read(descriptor, buffer.baseAddress, buffer.count)
        #else
        Musl.read(descriptor, buffer.baseAddress, buffer.count)
        #endif
    }
}
