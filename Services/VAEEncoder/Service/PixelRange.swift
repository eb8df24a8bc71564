import Tensor

/// Between bytes and the values that the autoencoder reads, as diffusers' `VideoProcessor` computes them.
enum PixelRange {
    /// uint8 → float32 in [−1, 1]: a byte over 255, then 2x − 1, each rounded to float32.
    static func modelValues(_ pixels: Tensor) -> Tensor {
        let table = (0...255).map { 2 * (Float($0) / 255) - 1 }
        var result = Tensor(uninitialized: pixels.shape, dtype: .float32)
        pixels.withUnsafeBytes { bytes in
            result.withUnsafeMutableBytes { target in
                let values = target.bindMemory(to: Float.self)
                for index in bytes.indices { values[index] = table[Int(bytes[index])] }
            }
        }
        return result
    }

    /// `x · scale`, float32.
    static func scaled(_ x: Tensor, by scale: Float) -> Tensor {
        Tensor(x.floats().map { $0 * scale }, shape: x.shape)
    }
}
