/// Box–Muller over blocks of 16 uniforms, bit for bit as torch's vectorised CPU `normal_fill` (reference §7.7).
///
/// Element j < 8 of a block gives the radius ρ = √(−2 ln(1−u)), element j + 8 the angle 2πu. Logarithm, sine and cosine
/// are the Cephes polynomials of `avx_mathfun.h` in float32, so a plain libm call does not reproduce them.
enum NormalTransform {
    static let blockLength = 16

    /// Replaces the 16 uniforms from `offset` by 16 standard normals.
    static func apply(_ values: UnsafeMutableBufferPointer<Float>, at offset: Int) {
        let block = UnsafeMutableBufferPointer(rebasing: values[offset..<(offset + blockLength)])
        withUnsafeTemporaryAllocation(of: Float.self, capacity: blockLength) { result in
            var fast = FusedInDouble()
            pairs(block, into: result, &fast)
            if fast.doubtful != 0 {
                var exact = FusedExactly()
                pairs(block, into: result, &exact)
            }
            for index in 0..<blockLength { block[index] = result[index] }
        }
    }

    @inline(__always) private static func pairs<Fused: FusedArithmetic>(
        _ uniforms: UnsafeMutableBufferPointer<Float>, into result: UnsafeMutableBufferPointer<Float>,
        _ fused: inout Fused
    ) {
        for index in 0..<8 {
            let radius = (-2 * logarithm(1 - uniforms[index], &fused)).squareRoot()
            let angle = 6.2831855 * uniforms[index &+ 8]
            let (sine, cosine) = sineAndCosine(angle, &fused)
            result[index] = radius * cosine
            result[index &+ 8] = radius * sine
        }
    }

    /// ln x for x > 0.
    @inline(__always) private static func logarithm<Fused: FusedArithmetic>(_ x: Float, _ fused: inout Fused) -> Float {
        var exponent = Float(Int32(bitPattern: x.bitPattern >> 23) &- 126)
        var m = Float(bitPattern: (x.bitPattern & 0x007f_ffff) | 0x3f00_0000)
        let isSmall = m < 0.70710678
        exponent -= isSmall ? 1 : 0
        m = (m - 1) + (isSmall ? m : 0)
        let z = m * m
        var y: Float = 7.0376836292e-2
        y = fused.multiplyAdd(y, m, -1.1514610310e-1)
        y = fused.multiplyAdd(y, m, 1.1676998740e-1)
        y = fused.multiplyAdd(y, m, -1.2420140846e-1)
        y = fused.multiplyAdd(y, m, 1.4249322787e-1)
        y = fused.multiplyAdd(y, m, -1.6668057665e-1)
        y = fused.multiplyAdd(y, m, 2.0000714765e-1)
        y = fused.multiplyAdd(y, m, -2.4999993993e-1)
        y = fused.multiplyAdd(y, m, 3.3333331174e-1)
        y = fused.multiplyAdd(y * m, z, exponent * -2.12194440e-4)
        y -= z * 0.5
        return (m + y) + exponent * 0.693359375
    }

    /// sin x and cos x for 0 ≤ x ≤ 2π.
    @inline(__always) private static func sineAndCosine<Fused: FusedArithmetic>(
        _ x: Float, _ fused: inout Fused
    ) -> (sine: Float, cosine: Float) {
        let scaled = x * 1.27323954473516
        // Adding 2²³ leaves the nearest integer in the low bits; step back to truncate. No trapping conversion, so the
        // loop vectorises.
        let shifted = scaled + 8_388_608
        var octant = shifted.bitPattern & 0xff
        octant = octant &- (shifted - 8_388_608 > scaled ? 1 : 0)
        octant = (octant &+ 1) & ~1
        let count = Float(Int32(bitPattern: octant))
        var r = x + count * -0.78515625
        r += count * -2.4187564849853515625e-4
        r += count * -3.77489497744594108e-8
        let z = r * r
        var c = fused.multiplyAdd(2.443315711809948e-5, z, -1.388731625493765e-3)
        c = fused.multiplyAdd(c, z, 4.166664568298827e-2)
        c = fused.multiplyAdd(c * z, z, -(z * 0.5)) + 1
        var s = fused.multiplyAdd(-1.9515295891e-4, z, 8.3321608736e-3)
        s = fused.multiplyAdd(s, z, -1.6666654611e-1)
        s = fused.multiplyAdd(s * z, r, r)
        let isSwapped = octant & 2 != 0
        let sineSign = (octant & 4) << 29
        let cosineSign = (~(octant &- 2) & 4) << 29
        return (
            Float(bitPattern: (isSwapped ? c : s).bitPattern ^ sineSign),
            Float(bitPattern: (isSwapped ? s : c).bitPattern ^ cosineSign)
        )
    }
}

/// a·b + c with one rounding.
protocol FusedArithmetic {
    mutating func multiplyAdd(_ a: Float, _ b: Float, _ c: Float) -> Float
}

/// The processor's instruction where it has one, else the C library's slow but exact `fmaf`.
struct FusedExactly: FusedArithmetic {
    @inline(__always) mutating func multiplyAdd(_ a: Float, _ b: Float, _ c: Float) -> Float { c.addingProduct(a, b) }
}

/// Through double precision, which vectorises on every x86-64: the product is exact, and rounding the sum twice differs
/// from rounding it once only if the double lies exactly between two floats. That case sets `doubtful`.
struct FusedInDouble: FusedArithmetic {
    var doubtful: UInt32 = 0

    @inline(__always) mutating func multiplyAdd(_ a: Float, _ b: Float, _ c: Float) -> Float {
        let sum = Double(a) * Double(b) + Double(c)
        doubtful |= UInt32(truncatingIfNeeded: sum.bitPattern) & 0x1fff_ffff == 0x1000_0000 ? 1 : 0
        return Float(sum)
    }
}
