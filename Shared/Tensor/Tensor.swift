/// A dense row-major array: the last index runs fastest, elements are little-endian, there is no padding.
///
/// A value type over shared storage. Slices along the first axis and reshapes share the storage;
/// a write copies first when anybody else can see the bytes.
package struct Tensor: Sendable {
    package let dtype: DType
    package private(set) var shape: [Int]
    package private(set) var storage: TensorStorage
    package private(set) var byteOffset: Int

    /// Number of elements.
    package var count: Int { shape.reduce(1, *) }
    package var byteCount: Int { count * dtype.byteCount }

    /// A tensor of uninitialised memory: every byte must be written before it is read.
    package init(uninitialized shape: [Int], dtype: DType = .float32) {
        self.init(storage: TensorStorage(byteCount: shape.reduce(1, *) * dtype.byteCount), shape: shape, dtype: dtype)
    }

    /// A tensor over `storage`, beginning `byteOffset` bytes into it.
    package init(storage: TensorStorage, byteOffset: Int = 0, shape: [Int], dtype: DType) {
        precondition(shape.allSatisfy { $0 >= 0 }, "a tensor shape has no negative extent: \(shape)")
        precondition(
            byteOffset + shape.reduce(1, *) * dtype.byteCount <= storage.byteCount, "storage too small for \(shape)")
        self.dtype = dtype
        self.shape = shape
        self.storage = storage
        self.byteOffset = byteOffset
    }

    package init(zeros shape: [Int], dtype: DType = .float32) {
        self.init(uninitialized: shape, dtype: dtype)
        withUnsafeMutableBytes { _ = $0.initializeMemory(as: UInt8.self, repeating: 0) }
    }

    /// A float32 tensor of the given values in row-major order.
    package init(_ values: [Float], shape: [Int]) {
        precondition(values.count == shape.reduce(1, *), "\(values.count) values do not fill \(shape)")
        self.init(uninitialized: shape, dtype: .float32)
        withUnsafeMutableBytes { target in values.withUnsafeBytes { target.copyMemory(from: $0) } }
    }

    /// An int32 tensor, for token ids.
    package init(ids: [Int32], shape: [Int]) {
        precondition(ids.count == shape.reduce(1, *), "\(ids.count) ids do not fill \(shape)")
        self.init(uninitialized: shape, dtype: .int32)
        withUnsafeMutableBytes { target in ids.withUnsafeBytes { target.copyMemory(from: $0) } }
    }

    /// A uint8 tensor of shape `[bytes.count]`.
    package init(bytes: [UInt8]) {
        self.init(uninitialized: [bytes.count], dtype: .uint8)
        withUnsafeMutableBytes { target in bytes.withUnsafeBytes { target.copyMemory(from: $0) } }
    }

    /// Reads the bytes; the pointer is valid inside `body` only.
    package func withUnsafeBytes<Result>(_ body: (UnsafeRawBufferPointer) throws -> Result) rethrows -> Result {
        try body(UnsafeRawBufferPointer(start: storage.address + byteOffset, count: byteCount))
    }

    /// Writes the bytes, after a copy when the storage is shared or read-only.
    package mutating func withUnsafeMutableBytes<Result>(
        _ body: (UnsafeMutableRawBufferPointer) throws -> Result
    ) rethrows -> Result {
        if !storage.isWritable || !isKnownUniquelyReferenced(&storage) { self = copied() }
        return try body(UnsafeMutableRawBufferPointer(start: storage.address + byteOffset, count: byteCount))
    }

    /// The same elements in storage of their own.
    package func copied() -> Tensor {
        let copy = Tensor(uninitialized: shape, dtype: dtype)
        withUnsafeBytes { source in
            UnsafeMutableRawBufferPointer(start: copy.storage.address, count: byteCount).copyMemory(from: source)
        }
        return copy
    }

    /// The same elements under another shape of equal count.
    package func reshaped(_ newShape: [Int]) -> Tensor {
        precondition(newShape.reduce(1, *) == count, "cannot reshape \(shape) to \(newShape)")
        var result = self
        result.shape = newShape
        return result
    }

    /// Rows `range` of the first axis, sharing the storage.
    package func rows(_ range: Range<Int>) -> Tensor {
        precondition(
            !shape.isEmpty && range.lowerBound >= 0 && range.upperBound <= shape[0], "rows \(range) of \(shape)")
        var result = self
        result.byteOffset += range.lowerBound * shape.dropFirst().reduce(1, *) * dtype.byteCount
        result.shape[0] = range.count
        return result
    }

    /// Joins tensors of equal dtype and equal trailing extents along the first axis.
    package static func concatenated(_ parts: [Tensor]) -> Tensor {
        precondition(!parts.isEmpty, "nothing to concatenate")
        let trailing = Array(parts[0].shape.dropFirst())
        var result = Tensor(
            uninitialized: [parts.reduce(0) { $0 + $1.shape[0] }] + trailing, dtype: parts[0].dtype)
        result.withUnsafeMutableBytes { target in
            var offset = 0
            for part in parts {
                precondition(
                    part.dtype == parts[0].dtype && Array(part.shape.dropFirst()) == trailing, "parts do not fit")
                part.withUnsafeBytes { source in
                    UnsafeMutableRawBufferPointer(rebasing: target[offset..<(offset + source.count)])
                        .copyMemory(from: source)
                    offset += source.count
                }
            }
        }
        return result
    }
}
