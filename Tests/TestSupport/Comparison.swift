package import Tensor

/// The largest |a − b| over all elements; infinite when a value is NaN. Shapes must agree, types need not.
package func maxAbsoluteDifference(_ a: Tensor, _ b: Tensor) -> Float {
    precondition(a.shape == b.shape, "\(a.shape) and \(b.shape) cannot be compared")
    return zip(a.floats(), b.floats()).reduce(0) { largest, pair in
        let difference = abs(pair.0 - pair.1)
        return difference.isNaN ? .infinity : max(largest, difference)
    }
}

/// `maxAbsoluteDifference` over the largest |b|: the error relative to the scale of the reference `b`.
package func maxRelativeDifference(_ a: Tensor, _ b: Tensor) -> Float {
    let scale = b.floats().reduce(Float.leastNormalMagnitude) { max($0, abs($1)) }
    return maxAbsoluteDifference(a, b) / scale
}

/// Whether two tensors have the same type, shape and bytes.
package func identical(_ a: Tensor, _ b: Tensor) -> Bool {
    a.dtype == b.dtype && a.shape == b.shape
        && a.withUnsafeBytes { left in b.withUnsafeBytes { right in left.elementsEqual(right) } }
}
