import Tensor

/// A tensor whose bytes libzmq may read on its own thread until the last reference to this object is gone.
///
/// `@unchecked Sendable`: both fields are constant, and the bytes behind `base` never change, because `tensor` holds
/// the storage and a tensor that shares its storage is copied before it is written.
final class PinnedTensor: @unchecked Sendable {
    private let tensor: Tensor
    private let base: UnsafeRawPointer?
    let count: Int

    init(_ tensor: Tensor) {
        self.tensor = tensor
        (base, count) = tensor.withUnsafeBytes { ($0.baseAddress, $0.count) }
    }

    func slice(_ offset: Int, _ length: Int) -> UnsafeRawBufferPointer {
        precondition(offset >= 0 && length >= 0 && offset + length <= count, "slice \(offset)+\(length) of \(count)")
        return UnsafeRawBufferPointer(start: base?.advanced(by: offset), count: base == nil ? 0 : length)
    }
}
