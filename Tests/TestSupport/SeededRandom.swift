package import Tensor

/// SplitMix64 (Steele, Lea, Flood 2014): the same sequence for the same seed on every machine.
package struct SeededGenerator: RandomNumberGenerator, Sendable {
    private var state: UInt64

    package init(seed: UInt64) { state = seed }

    package mutating func next() -> UInt64 {
        state &+= 0x9e37_79b9_7f4a_7c15
        var z = state
        z = (z ^ (z >> 30)) &* 0xbf58_476d_1ce4_e5b9
        z = (z ^ (z >> 27)) &* 0x94d0_49bb_1331_11eb
        return z ^ (z >> 31)
    }
}

/// Values uniform in [−scale, scale) from a seed, rounded to `dtype`.
package func randomTensor(_ shape: [Int], seed: UInt64, scale: Float = 1, dtype: DType = .float32) -> Tensor {
    var generator = SeededGenerator(seed: seed)
    let values = (0..<shape.reduce(1, *)).map { _ in Float.random(in: -scale..<scale, using: &generator) }
    return Tensor(values, shape: shape).converted(to: dtype)
}
