package import Failure
package import Tensor

/// The range in which the networks see pictures: −1 … 1.
package enum ModelSpace {
    /// uint8 pictures of any shape as float32 `2·(x/255) − 1` of the same shape, to the bit as diffusers'
    /// `VideoProcessor` computes it (division and subtraction in single precision). Throws `frames_shape_invalid`.
    package static func normalized(_ pictures: Tensor) throws(Failure) -> Tensor {
        guard pictures.dtype == .uint8 else {
            throw Failure(
                "frames_shape_invalid", "Pictures are uint8, not \(pictures.dtype) \(pictures.shape).", field: "frames")
        }
        let levels = (0..<256).map { 2 * (Float($0) / 255) - 1 }
        var result = Tensor(uninitialized: pictures.shape, dtype: .float32)
        result.withUnsafeMutableBytes { target in
            let values = target.assumingMemoryBound(to: Float.self)
            pictures.withUnsafeBytes { source in
                levels.withUnsafeBufferPointer { levels in
                    for index in 0..<source.count { values[index] = levels[Int(source[index])] }
                }
            }
        }
        return result
    }
}
