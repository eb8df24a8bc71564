/// Name, element type and extents of a tensor that somebody will make when it is wanted.
package struct TensorDescription: Sendable, Hashable {
    package let name: String
    package let dtype: DType
    package let shape: [Int]

    package var byteCount: Int { shape.reduce(1, *) * dtype.byteCount }

    /// Describes a tensor that is still to be made.
    package init(name: String, dtype: DType, shape: [Int]) {
        self.name = name
        self.dtype = dtype
        self.shape = shape
    }

    init(_ name: String, _ tensor: Tensor) {
        self.init(name: name, dtype: tensor.dtype, shape: tensor.shape)
    }
}
