package import Tensor

/// `max(x, 0)` of a float32 or bfloat16 tensor.
///
/// In both formats a set sign bit means that the value is at most zero, so no conversion is needed. (NaNs with the
/// sign set become zero; outputs are checked for them elsewhere.)
func relu(_ x: Tensor) -> Tensor {
    var result = x.copied()
    switch x.dtype {
    case .float32:
        result.withUnsafeMutableBytes { bytes in
            for element in bytes.bindMemory(to: Int32.self).indices {
                let value = bytes.load(fromByteOffset: element * 4, as: Int32.self)
                if value < 0 { bytes.storeBytes(of: 0, toByteOffset: element * 4, as: Int32.self) }
            }
        }
    case .bfloat16:
        result.withUnsafeMutableBytes { bytes in
            for element in bytes.bindMemory(to: Int16.self).indices {
                let value = bytes.load(fromByteOffset: element * 2, as: Int16.self)
                if value < 0 { bytes.storeBytes(of: 0, toByteOffset: element * 2, as: Int16.self) }
            }
        }
    default: preconditionFailure("relu of \(x.dtype)")
    }
    return result
}

extension Tensor {
    /// `scale · x + offset`, clamped to `range` when there is one; float32 only.
    package func scaled(by scale: Float, plus offset: Float = 0, clampedTo range: ClosedRange<Float>? = nil) -> Tensor {
        precondition(dtype == .float32, "scaled(by:) works on float32, not \(dtype)")
        var result = self
        result.withUnsafeMutableBytes { bytes in
            let values = bytes.bindMemory(to: Float.self)
            let lower = range?.lowerBound ?? -.infinity
            let upper = range?.upperBound ?? .infinity
            for index in values.indices { values[index] = min(max(values[index] * scale + offset, lower), upper) }
        }
        return result
    }
}
