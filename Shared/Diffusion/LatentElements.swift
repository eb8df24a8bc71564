import Failure
import Tensor

/// How results are rounded to the dtype of the latents.
///
/// A torch product of a 0-d double and a bfloat16 tensor rounds the scalar first, then the product; products with the
/// float32 model output stay float32. The samplers follow that wherever diffusers multiplies latents or noise.
protocol LatentRounding {
    static func rounded(_ value: Float) -> Float
}

enum RoundingToFloat32: LatentRounding {
    @inline(__always) static func rounded(_ value: Float) -> Float { value }
}

enum RoundingToBFloat16: LatentRounding {
    /// The nearest bfloat16, ties to even; a NaN stays one.
    @inline(__always) static func rounded(_ value: Float) -> Float {
        let pattern = value.bitPattern
        let nearest = (pattern &+ 0x7fff &+ ((pattern >> 16) & 1)) & 0xffff_0000
        return value.isNaN ? value : Float(bitPattern: nearest)
    }
}

enum RoundingToFloat16: LatentRounding {
    @inline(__always) static func rounded(_ value: Float) -> Float { Float(Float16(value)) }
}

extension Tensor {
    /// The elements as float32; anything but a floating point tensor is `tensor_dtype_invalid`.
    func floats(field: String) throws(Failure) -> [Float] {
        guard dtype.isFloatingPoint else {
            throw Failure("tensor_dtype_invalid", "\(field) is \(dtype), but must be floating point.", field: field)
        }
        return floats()
    }

    /// A tensor of `values` rounded to `dtype`, nearest with ties to even.
    init(rounding values: [Float], shape: [Int], dtype: DType) {
        self = Tensor(values, shape: shape).converted(to: dtype)
    }
}

/// Elementwise operands must agree in every extent.
func requireSameShape(_ first: Tensor, _ second: Tensor, field: String) throws(Failure) {
    guard first.shape == second.shape else {
        throw Failure(
            "tensor_shape_mismatch", "\(field) has shape \(second.shape), but the latents have \(first.shape).",
            field: field)
    }
}
