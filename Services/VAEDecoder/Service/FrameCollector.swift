import Failure
import Stage
import Tensor

/// Puts decoded chunks together into one clip of bytes, and of floats where they are wanted.
struct FrameCollector {
    /// `[T, H, W, 3]` uint8.
    private(set) var frames: Tensor
    /// `[T, H, W, 3]` float32 in [0, 1], or nil.
    private(set) var floatFrames: Tensor?
    private var filled = 0

    /// Frames that are there.
    var frameCount: Int { filled / frames.shape.dropFirst().reduce(1, *) }

    init(frames count: Int, height: Int, width: Int, keepsFloats: Bool) {
        let shape = [count, height, width, 3]
        frames = Tensor(uninitialized: shape, dtype: .uint8)
        floatFrames = keepsFloats ? Tensor(uninitialized: shape, dtype: .float32) : nil
    }

    /// Appends `[t, H, W, 3]` float32 in [0, 1]. Fails with `numeric_fault` when a value is not finite.
    mutating func append(_ chunk: Tensor) throws(Failure) {
        precondition(chunk.dtype == .float32 && filled + chunk.count <= frames.count, "chunks fill the clip")
        try TensorExpectation.checkFinite(chunk, name: "frames", code: "numeric_fault")
        let offset = filled
        chunk.withUnsafeBytes { source in
            let values = source.bindMemory(to: Float.self)
            frames.withUnsafeMutableBytes { target in
                for index in 0..<values.count {
                    let scaled = (min(max(values[index], 0), 1) * 255).rounded(.toNearestOrEven)
                    target[offset + index] = UInt8(scaled)
                }
            }
            floatFrames?.withUnsafeMutableBytes { target in
                UnsafeMutableRawBufferPointer(rebasing: target[(offset * 4)...]).copyMemory(from: source)
            }
        }
        filled += chunk.count
    }
}
