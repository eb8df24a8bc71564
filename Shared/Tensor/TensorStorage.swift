import Glibc

/// Bytes that tensors look into: owned memory, or a mapped file kept alive by `owner`.
///
/// `@unchecked Sendable`: the address and length never change, and bytes are written only through
/// `Tensor.withUnsafeMutableBytes`, which first makes sure that exactly one tensor holds this storage
/// and that the storage is writable. Shared storage is therefore read-only.
package final class TensorStorage: @unchecked Sendable {
    let address: UnsafeMutableRawPointer
    package let byteCount: Int
    let isWritable: Bool
    /// Whether the bytes are those of a file, so that pages may be dropped and come back.
    let isMappedFile: Bool
    private let release: @Sendable (UnsafeMutableRawPointer, Int) -> Void

    /// Bytes of a huge page, and how many of them make a block ask for huge pages: the first touch of fresh pages of
    /// 4 KiB takes about ten times as long as a copy.
    private static let hugePage = 2 << 20, hugePagesWorthAsking = 2

    /// Allocates uninitialised memory aligned to 64 bytes.
    package init(byteCount: Int) {
        self.byteCount = byteCount
        address = UnsafeMutableRawPointer.allocate(byteCount: max(byteCount, 64), alignment: 64)
        let firstPage = address.alignedUp(toMultipleOf: Self.hugePage)
        let pageBytes = (address + byteCount).alignedDown(toMultipleOf: Self.hugePage) - firstPage
        if pageBytes >= Self.hugePagesWorthAsking * Self.hugePage { madvise(firstPage, pageBytes, MADV_HUGEPAGE) }
        isWritable = true
        isMappedFile = false
        release = { pointer, _ in pointer.deallocate() }
    }

    /// Takes over memory that somebody else made; `release` runs once, on whichever thread drops the last reference.
    package init(
        adopting address: UnsafeMutableRawPointer, byteCount: Int, isWritable: Bool, isMappedFile: Bool = false,
        release: @escaping @Sendable (UnsafeMutableRawPointer, Int) -> Void
    ) {
        self.address = address
        self.byteCount = byteCount
        self.isWritable = isWritable
        self.isMappedFile = isMappedFile
        self.release = release
    }

    deinit { release(address, byteCount) }
}
