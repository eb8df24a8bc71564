import CKernels
import Compute
import Tensor
import TestSupport
import Testing

@Suite("Conversions of every instruction set")
struct ConversionTests {
    static let tables: [ck_isa] = [CK_GENERIC, CK_AVX2, CK_AVX512, CK_AVX512_BF16]

    /// Floats with every exponent, every rounding case of both half types, and the special values.
    static let floats: [Float] = {
        var patterns: [UInt32] = [
            0, 0x8000_0000, 0x7f80_0000, 0xff80_0000, 0x7f80_0001, 0x7fc0_0000, 0xffff_ffff, 1, 0x7f7f_ffff,
        ]
        for exponent in UInt32(0)..<255 {
            for tail: UInt32 in [
                0, 1, 0x0fff, 0x1000, 0x1001, 0x2fff, 0x3000, 0x7fff, 0x8000, 0x8001, 0x1_8000, 0x7f_ffff,
            ] {
                patterns += [exponent << 23 | tail, 0x8000_0000 | exponent << 23 | tail]
            }
        }
        return patterns.map { Float(bitPattern: $0) }
    }()

    func converted<From, To>(_ values: [From], _ from: ck_type, _ to: ck_type, _ isa: ck_isa, zero: To) -> [To] {
        var result = [To](repeating: zero, count: values.count)
        values.withUnsafeBytes { source in
            result.withUnsafeMutableBytes { target in
                guard let source = source.baseAddress, let target = target.baseAddress else { return }
                ck_select_isa(isa).pointee.convert(from, source, to, target, Int64(values.count))
            }
        }
        return result
    }

    @Test("float32 to float16 rounds like the language's Float16, and back is exact", arguments: tables.map(\.rawValue))
    func float16(level: UInt32) {
        let isa = ck_isa(level)
        let halves: [UInt16] = converted(Self.floats, CK_F32, CK_F16, isa, zero: 0)
        for (value, half) in zip(Self.floats, halves) {
            let expected = Float16(value)
            if expected.isNaN {
                #expect(Float16(bitPattern: half).isNaN)
            } else {
                #expect(half == expected.bitPattern, "\(value)")
            }
        }
        let all = Array(UInt16.min...UInt16.max)
        let back: [Float] = converted(all, CK_F16, CK_F32, isa, zero: 0)
        for (pattern, value) in zip(all, back) {
            let expected = Float(Float16(bitPattern: pattern))
            #expect(expected.isNaN ? value.isNaN : value.bitPattern == expected.bitPattern)
        }
    }

    @Test("float32 to bfloat16 rounds to nearest with ties to even and keeps NaN", arguments: tables.map(\.rawValue))
    func bfloat16(level: UInt32) {
        let isa = ck_isa(level)
        let halves: [UInt16] = converted(Self.floats, CK_F32, CK_BF16, isa, zero: 0)
        for (value, half) in zip(Self.floats, halves) {
            let back = Float(bitPattern: UInt32(half) << 16)
            if value.isNaN {
                #expect(back.isNaN)
                continue
            }
            let low = UInt32(value.bitPattern & 0xffff), floor = UInt16(value.bitPattern >> 16)
            let up = low > 0x8000 || (low == 0x8000 && floor & 1 == 1)
            #expect(half == floor + (up ? 1 : 0), "\(value)")
        }
    }

    @Test(
        "half types convert into each other through float32, and bytes and integers become floats",
        arguments: tables.map(\.rawValue))
    func others(level: UInt32) {
        let isa = ck_isa(level)
        let brains: [UInt16] = converted(Self.floats, CK_F32, CK_BF16, isa, zero: 0)
        let direct: [UInt16] = converted(brains, CK_BF16, CK_F16, isa, zero: 0)
        let wide: [Float] = converted(brains, CK_BF16, CK_F32, isa, zero: 0)
        let viaFloat: [UInt16] = converted(wide, CK_F32, CK_F16, isa, zero: 0)
        #expect(direct == viaFloat)
        let bytes: [Float] = converted(Array(UInt8.min...UInt8.max), CK_U8, CK_F32, isa, zero: 0)
        #expect(bytes == (0..<256).map(Float.init))
        let integers: [Float] = converted([Int32.min, -1, 0, 7, Int32.max], CK_I32, CK_F32, isa, zero: 0)
        #expect(integers == [Float(Int32.min), -1, 0, 7, Float(Int32.max)])
    }

    @Test("the first value that is not finite is found in every type", arguments: tables.map(\.rawValue))
    func nonFinite(level: UInt32) {
        let table = ck_select_isa(ck_isa(level)).pointee
        for (dtype, type) in [(DType.float32, CK_F32), (.bfloat16, CK_BF16), (.float16, CK_F16)] {
            for bad in [Float.nan, .infinity, -.infinity] {
                for position in [0, 5, 1023, 1024, 2049] {
                    var values = randomTensor([2050], seed: 1).floats()
                    values[position] = bad
                    let x = Tensor(values, shape: [2050]).converted(to: dtype)
                    #expect(
                        x.withUnsafeBytes { table.first_non_finite(type, $0.baseAddress!, 2050) } == Int64(position))
                }
            }
            let finite = randomTensor([2050], seed: 1, dtype: dtype)
            #expect(finite.withUnsafeBytes { table.first_non_finite(type, $0.baseAddress!, 2050) } == -1)
        }
    }

    @Test("the backend converts like the tensor, in parts")
    func backend() throws {
        let x = randomTensor([100_003], seed: 9, scale: 100), backend = try Backends.backend(.best)
        for dtype in [DType.bfloat16, .float16, .float32] {
            #expect(identical(backend.converted(x, to: dtype), x.converted(to: dtype)))
        }
    }
}
