package import Checkpoint
package import Failure
package import Request
package import Tensor

extension Precision {
    /// The dtype of weights and activations.
    package var dtype: DType {
        switch self {
        case .float32: .float32
        case .bfloat16: .bfloat16
        }
    }
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
