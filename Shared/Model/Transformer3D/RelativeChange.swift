import Tensor

extension Tensor {
    /// `mean |self − before| / mean |before|` over some rows of two float32 or bfloat16 tensors `[rows, width]` of equal
    /// shape. The sums run in a fixed order, so the result does not depend on threads.
    func relativeChange(from before: Tensor, rows: [Range<Int>]) -> Double {
        precondition(dtype == before.dtype && shape == before.shape, "\(shape) compared with \(before.shape)")
        var difference = 0.0, reference = 0.0
        for range in rows {
            for row in range {
                let (ours, theirs) = (self.rows(row..<(row + 1)), before.rows(row..<(row + 1)))
                let sums = ours.absoluteSums(theirs)
                difference += Double(sums.difference)
                reference += Double(sums.reference)
            }
        }
        return difference / reference
    }

    private func absoluteSums(_ other: Tensor) -> (difference: Float, reference: Float) {
        withUnsafeBytes { ours in
            other.withUnsafeBytes { theirs in
                switch dtype {
                case .bfloat16: Self.absoluteSums(ours, theirs, BFloat16Lanes.self)
                case .float32: Self.absoluteSums(ours, theirs, Float32Lanes.self)
                default: preconditionFailure("activations are float32 or bfloat16, not \(dtype)")
                }
            }
        }
    }

    private static func absoluteSums<Lanes: FloatLanes>(
        _ ours: UnsafeRawBufferPointer, _ theirs: UnsafeRawBufferPointer, _ lanes: Lanes.Type
    ) -> (difference: Float, reference: Float) {
        var difference = SIMD8<Float>.zero, reference = SIMD8<Float>.zero
        let step = 8 * Lanes.elementBytes, whole = ours.count / step * step
        for offset in stride(from: 0, to: whole, by: step) {
            let value = Lanes.load(theirs, offset)
            difference += magnitude(Lanes.load(ours, offset) - value)
            reference += magnitude(value)
        }
        var sums = (difference: difference.sum(), reference: reference.sum())
        for offset in stride(from: whole, to: ours.count, by: Lanes.elementBytes) {
            let value = Lanes.loadOne(theirs, offset)
            sums.difference += abs(Lanes.loadOne(ours, offset) - value)
            sums.reference += abs(value)
        }
        return sums
    }

    @inline(__always)
    private static func magnitude(_ values: SIMD8<Float>) -> SIMD8<Float> {
        unsafeBitCast(unsafeBitCast(values, to: SIMD8<UInt32>.self) & 0x7fff_ffff, to: SIMD8<Float>.self)
    }
}

/// Reads floating point values of one dtype as float32.
private protocol FloatLanes {
    static var elementBytes: Int { get }
    static func load(_ bytes: UnsafeRawBufferPointer, _ offset: Int) -> SIMD8<Float>
    static func loadOne(_ bytes: UnsafeRawBufferPointer, _ offset: Int) -> Float
}

private enum Float32Lanes: FloatLanes {
    static let elementBytes = 4
    @inline(__always) static func load(_ bytes: UnsafeRawBufferPointer, _ offset: Int) -> SIMD8<Float> {
        bytes.loadUnaligned(fromByteOffset: offset, as: SIMD8<Float>.self)
    }
    @inline(__always) static func loadOne(_ bytes: UnsafeRawBufferPointer, _ offset: Int) -> Float {
        bytes.loadUnaligned(fromByteOffset: offset, as: Float.self)
    }
}

private enum BFloat16Lanes: FloatLanes {
    static let elementBytes = 2
    @inline(__always) static func load(_ bytes: UnsafeRawBufferPointer, _ offset: Int) -> SIMD8<Float> {
        let halves = bytes.loadUnaligned(fromByteOffset: offset, as: SIMD8<UInt16>.self)
        return unsafeBitCast(SIMD8<UInt32>(truncatingIfNeeded: halves) &<< 16, to: SIMD8<Float>.self)
    }
    @inline(__always) static func loadOne(_ bytes: UnsafeRawBufferPointer, _ offset: Int) -> Float {
        Float(bitPattern: UInt32(bytes.loadUnaligned(fromByteOffset: offset, as: UInt16.self)) << 16)
    }
}
