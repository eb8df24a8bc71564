package import Failure
import Glibc
package import Tensor

/// `torch.Generator` on the CPU: the same seed gives the same normals, bit for bit (reference §7.7; torch 2.15 on x86).
///
/// A value type: a copy continues the same stream on its own.
package struct TorchGenerator: Sendable, Hashable {
    private var engine: MersenneTwister
    /// The second normal of the last scalar Box–Muller pair, handed out next.
    private var cachedNormal: Double?

    /// `torch.Generator().manual_seed(seed)`; torch uses the low 32 bits.
    package init(seed: UInt64) {
        engine = MersenneTwister(seed: UInt32(truncatingIfNeeded: seed))
    }

    /// `torch.randn(shape, dtype)`: standard normals, drawn in float32 and rounded to bfloat16 or float16.
    package mutating func randn(shape: [Int], dtype: DType = .float32) -> Tensor {
        precondition(dtype.isFloatingPoint, "normals are floating point, not \(dtype)")
        var normals = Tensor(uninitialized: shape, dtype: .float32)
        normals.withUnsafeMutableBytes { bytes in
            let values = bytes.bindMemory(to: Float.self)
            if values.count >= NormalTransform.blockLength {
                fillBlocks(values, dtype: dtype)
            } else {
                for index in values.indices { values[index] = Float(scalarNormal()) }
            }
        }
        return dtype == .float32 ? normals : normals.converted(to: dtype)
    }

    /// Advances as `randn` of `count` elements does, without computing them.
    package mutating func skipNormals(count: Int, dtype: DType = .float32) {
        if count >= NormalTransform.blockLength {
            engine.skip(Self.wordsDrawn(count, dtype))
        } else {
            for _ in 0..<count { _ = scalarNormal() }
        }
    }

    private static func wordsDrawn(_ count: Int, _ dtype: DType) -> Int {
        let remainder = count % NormalTransform.blockLength
        if remainder == 0 { return count }
        return (dtype == .float32 ? count : count - remainder) + NormalTransform.blockLength
    }

    private mutating func fillBlocks(_ values: UnsafeMutableBufferPointer<Float>, dtype: DType) {
        let length = NormalTransform.blockLength
        let remainder = values.count % length
        let whole = values.count - remainder
        engine.fillUniforms(UnsafeMutableBufferPointer(rebasing: values[..<whole]))
        for offset in stride(from: 0, to: whole, by: length) { NormalTransform.apply(values, at: offset) }
        guard remainder != 0 else { return }
        // A ragged end redraws the last 16 values; float32 first draws and discards the ragged uniforms.
        if dtype == .float32 { engine.skip(remainder) }
        let tail = UnsafeMutableBufferPointer(rebasing: values[(values.count - length)...])
        engine.fillUniforms(tail)
        NormalTransform.apply(tail, at: 0)
    }

    /// One normal of `at::normal_distribution<double>`, the path of tensors under 16 elements.
    private mutating func scalarNormal() -> Double {
        if let cached = cachedNormal {
            cachedNormal = nil
            return cached
        }
        let angle = 2 * Double.pi * uniform53()
        let radius = (-2 * log1p(-uniform53())).squareRoot()
        cachedNormal = radius * sin(angle)
        return radius * cos(angle)
    }

    private mutating func uniform53() -> Double {
        let high = UInt64(engine.next())
        let low = UInt64(engine.next())
        return Double(((high << 32) | low) & ((1 << 53) - 1)) * 0x1p-53
    }

    // MARK: State

    /// The whole state in 2509 bytes: 624 words, words used, whether a normal is cached, its bits; little-endian.
    package var state: [UInt8] {
        var bytes: [UInt8] = []
        func append<Word: FixedWidthInteger>(_ word: Word) { withUnsafeBytes(of: word.littleEndian) { bytes += $0 } }
        for word in engine.words { append(word) }
        append(UInt32(engine.used))
        bytes.append(cachedNormal == nil ? 0 : 1)
        append(cachedNormal?.bitPattern ?? 0)
        return bytes
    }

    /// The generator that `state` was read from; any other bytes are `generator_state_invalid`.
    package init(state: [UInt8]) throws(Failure) {
        let wordBytes = MersenneTwister.length * 4
        func word(_ offset: Int, _ count: Int) -> UInt64 {
            state[offset..<(offset + count)].reversed().reduce(0) { $0 << 8 | UInt64($1) }
        }
        guard state.count == wordBytes + 13, state[wordBytes + 4] <= 1,
            let engine = MersenneTwister(
                words: (0..<MersenneTwister.length).map { UInt32(word($0 * 4, 4)) }, used: Int(word(wordBytes, 4)))
        else {
            throw Failure(
                "generator_state_invalid", "\(state.count) bytes are not the state of a random generator.",
                field: "generator")
        }
        self.engine = engine
        cachedNormal = state[wordBytes + 4] == 1 ? Double(bitPattern: word(wordBytes + 5, 8)) : nil
    }
}
