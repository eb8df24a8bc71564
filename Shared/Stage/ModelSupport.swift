package import Checkpoint
package import Compute
package import Failure
package import Request
package import Tensor

extension Precision {
    /// The dtype of activations, and of weights where they are not kept in eight bits.
    package var dtype: DType {
        switch self {
        case .float32: .float32
        case .bfloat16, .int8: .bfloat16
        }
    }

    /// How the transformer keeps the weights of its large products.
    package var transformerWeights: ProductPrecision { self == .int8 ? .int8 : .activation }
}

extension ModelFolder {
    /// Bytes that the weights of `component` take when they are held in `dtype`; the files are only mapped.
    package func weightBytes(_ component: Component, dtype: DType) throws(Failure) -> Int {
        let weights = try weights(component)
        var elements = 0
        for name in weights.names { elements += try weights.tensor(name).count }
        return elements * dtype.byteCount
    }
}
