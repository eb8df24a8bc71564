import Glibc

extension Tensor {
    /// Whether the bytes are those of a mapped file: they take memory only while somebody reads them.
    package var isInFile: Bool { storage.isMappedFile }

    /// Lets the pages of a mapped file go that this tensor was read from; they are read again when somebody looks.
    /// Without effect on tensors in memory of their own.
    package func dropMappedPages() {
        guard storage.isMappedFile else { return }
        let page = Int(sysconf(Int32(_SC_PAGESIZE)))
        let address = storage.address + byteOffset
        let first = address.alignedUp(toMultipleOf: page), end = (address + byteCount).alignedDown(toMultipleOf: page)
        if end > first { madvise(first, end - first, MADV_DONTNEED) }
    }

    /// The first byte, for kernels that read. Valid while this tensor, or another of the same storage, is alive
    /// (`withExtendedLifetime`) and nobody writes it.
    package var readAddress: UnsafeRawPointer { UnsafeRawPointer(storage.address + byteOffset) }

    /// The first byte, for kernels that write a tensor in several threads, after a copy when the storage is shared or
    /// read-only. Valid until this tensor is copied, assigned or destroyed.
    package mutating func writeAddress() -> UnsafeMutableRawPointer {
        withUnsafeMutableBytes { _ in }
        return storage.address + byteOffset
    }
}
