import Failure
import Tensor

extension Tensor {
    /// Fails with `numeric_fault` when an element is NaN or infinite.
    func requireFinite(_ what: String, field: String) throws(Failure) {
        guard let index = firstNonFinite() else { return }
        throw Failure(
            "numeric_fault", "\(what) has a value that is not finite at element \(index) of \(shape).", field: field,
            remedy: dtype == .float32 ? nil : "Try again in float32.")
    }
}

/// What the residual streams and activations of a network may be.
func requireWorkingDType(_ dtype: DType) {
    precondition(dtype == .float32 || dtype == .bfloat16, "networks work in float32 or bfloat16, not \(dtype)")
}
