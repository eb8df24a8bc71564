extension Tensor {
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
