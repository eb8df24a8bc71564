/// MT19937 as `at::mt19937`: seeded by Knuth's recurrence, 32 bits a draw.
struct MersenneTwister: Sendable, Hashable {
    static let length = 624
    private static let middle = 397

    private(set) var words: [UInt32]
    /// Words of the current block already handed out.
    private(set) var used: Int

    init(seed: UInt32) {
        words = [seed]
        words.reserveCapacity(Self.length)
        for index in 1..<UInt32(Self.length) {
            let previous = words[Int(index) - 1]
            words.append(1_812_433_253 &* (previous ^ (previous >> 30)) &+ index)
        }
        used = Self.length
    }

    /// Restores a saved state; nil unless it has the right length and position.
    init?(words: [UInt32], used: Int) {
        guard words.count == Self.length, (0...Self.length).contains(used) else { return nil }
        self.words = words
        self.used = used
    }

    mutating func next() -> UInt32 {
        if used == Self.length { renew() }
        used += 1
        return Self.tempered(words[used - 1])
    }

    /// Fills `target` with uniforms in [0, 1): the low 24 bits of each draw over 2²⁴.
    mutating func fillUniforms(_ target: UnsafeMutableBufferPointer<Float>) {
        var filled = 0
        while filled < target.count {
            if used == Self.length { renew() }
            let run = min(target.count - filled, Self.length - used)
            words.withUnsafeBufferPointer { source in
                for index in 0..<run {
                    let bits = Self.tempered(source[used + index]) & 0xff_ffff
                    target[filled + index] = Float(Int32(bitPattern: bits)) * 0x1p-24
                }
            }
            used += run
            filled += run
        }
    }

    /// Advances as `count` draws would.
    mutating func skip(_ count: Int) {
        var left = count
        while left > 0 {
            if used == Self.length { renew() }
            let run = min(left, Self.length - used)
            used += run
            left -= run
        }
    }

    @inline(__always) private static func tempered(_ word: UInt32) -> UInt32 {
        var value = word
        value ^= value >> 11
        value ^= (value << 7) & 0x9d2c_5680
        value ^= (value << 15) & 0xefc6_0000
        return value ^ (value >> 18)
    }

    @inline(__always) private static func mixed(_ high: UInt32, _ low: UInt32) -> UInt32 {
        let joined = (high & 0x8000_0000) | (low & 0x7fff_ffff)
        return (joined >> 1) ^ ((0 &- (low & 1)) & 0x9908_b0df)
    }

    private mutating func renew() {
        words.withUnsafeMutableBufferPointer { state in
            let split = Self.length - Self.middle
            for index in 0..<split {
                state[index] = state[index &+ Self.middle] ^ Self.mixed(state[index], state[index &+ 1])
            }
            for index in split..<(Self.length - 1) {
                state[index] = state[index &- split] ^ Self.mixed(state[index], state[index &+ 1])
            }
            state[Self.length - 1] = state[Self.middle - 1] ^ Self.mixed(state[Self.length - 1], state[0])
        }
        used = 0
    }
}
