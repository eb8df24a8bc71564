package import Failure

/// Bytes that wait in a `NamelessFile` instead of in memory: written once from front to back, then read as a tensor.
package struct SpillFile: ~Copyable {
    private let file: NamelessFile
    /// Bytes written.
    package private(set) var byteCount = 0

    /// Opens a file in `directory`. Fails with `cache_file_unusable`.
    package init(directory: String) throws(Failure) { file = try NamelessFile(directory: directory) }

    /// Appends a tensor's bytes. Fails with `cache_file_unusable` when there is no room.
    package mutating func append(_ tensor: Tensor) throws(Failure) {
        byteCount += try file.write(tensor, at: byteCount).byteCount
    }

    /// All bytes as a tensor of `shape`, which they fill exactly. Fails with `cache_file_unusable`.
    package consuming func tensor(shape: [Int], dtype: DType) throws(Failure) -> Tensor {
        precondition(shape.reduce(1, *) * dtype.byteCount == byteCount, "the bytes fill the shape")
        guard byteCount > 0 else { return Tensor(zeros: shape, dtype: dtype) }
        return Tensor(storage: try file.map(byteCount: byteCount), byteOffset: 0, shape: shape, dtype: dtype)
    }
}
