import Synchronization
import Tensor
import TestSupport
import Testing

@Suite("Tensor")
struct TensorTests {
    @Test("a write copies first when the storage is shared, and the other tensor keeps its values")
    func copyOnWrite() {
        let original = Tensor([1, 2, 3, 4], shape: [2, 2])
        var changed = original
        changed.withUnsafeMutableBytes { $0.storeBytes(of: Float(9), as: Float.self) }
        #expect(original.floats() == [1, 2, 3, 4])
        #expect(changed.floats() == [9, 2, 3, 4])
    }

    @Test("a slice that is written leaves the whole as it was")
    func sliceWrite() {
        let whole = Tensor([1, 2, 3, 4, 5, 6], shape: [3, 2])
        var row = whole.rows(1..<2)
        #expect(row.floats() == [3, 4])
        row.withUnsafeMutableBytes { $0.storeBytes(of: Float(0), as: Float.self) }
        #expect(whole.floats() == [1, 2, 3, 4, 5, 6])
        #expect(row.floats() == [0, 4])
    }

    @Test("a tensor that nobody shares is written in place")
    func inPlace() {
        var tensor = Tensor(zeros: [4])
        let before = tensor.readAddress
        #expect(tensor.writeAddress() == UnsafeMutableRawPointer(mutating: before))
    }

    @Test("adopted memory is released once, when the last tensor over it goes")
    func adoption() {
        let releases = Releases()
        do {
            let bytes = UnsafeMutableRawPointer.allocate(byteCount: 8, alignment: 8)
            let storage = TensorStorage(adopting: bytes, byteCount: 8, isWritable: false) { pointer, _ in
                releases.count.withLock { $0 += 1 }
                pointer.deallocate()
            }
            let tensor = Tensor(storage: storage, shape: [8], dtype: .uint8)
            var other = tensor.rows(2..<4)
            other.withUnsafeMutableBytes { $0[0] = 1 }
            #expect(releases.count.withLock { $0 } == 0)
            #expect(tensor.byteCount == 8)
        }
        #expect(releases.count.withLock { $0 } == 1)
    }

    @Test("joined rows follow each other, and a slice of the join is each part")
    func concatenation() {
        let parts = (0..<3).map { randomTensor([$0 + 1, 2, 3], seed: UInt64($0), dtype: .bfloat16) }
        let whole = Tensor.concatenated(parts)
        #expect(whole.shape == [6, 2, 3])
        #expect(identical(whole.rows(1..<3), parts[1]))
    }

    @Test("large blocks hold what is written to them")
    func largeBlock() {
        var tensor = Tensor(uninitialized: [40 << 20], dtype: .uint8)
        tensor.withUnsafeMutableBytes {
            $0[0] = 1
            $0[$0.count - 1] = 2
        }
        #expect(tensor.withUnsafeBytes { ($0[0], $0[$0.count - 1]) } == (1, 2))
    }
}

private final class Releases: Sendable {
    let count = Mutex(0)
}

@Suite("Values")
struct ValueTests {
    @Test("values of every type are read as floats")
    func floats() {
        #expect(Tensor([1.5, -2], shape: [2]).floats() == [1.5, -2])
        #expect(Tensor(ids: [7, -3], shape: [2]).floats() == [7, -3])
        #expect(Tensor(bytes: [0, 255]).floats() == [0, 255])
        var wide = Tensor(zeros: [2], dtype: .int64)
        wide.withUnsafeMutableBytes { $0.storeBytes(of: -9, toByteOffset: 8, as: Int64.self) }
        #expect(wide.floats() == [0, -9])
        #expect(Tensor(zeros: [0]).floats().isEmpty)
        #expect(Tensor(ids: [7, -3], shape: [2]).int32s() == [7, -3])
        #expect(Tensor(bytes: [9]).int32s() == [9])
    }

    @Test("values that a narrower type holds survive the way there and back", arguments: [DType.bfloat16, .float16])
    func roundTrip(dtype: DType) {
        let values = Tensor([0, -0.0, 1, -1.5, 0.25, 96, .infinity, -.infinity], shape: [8])
        let narrow = values.converted(to: dtype)
        #expect(narrow.dtype == dtype && narrow.byteCount == 16)
        #expect(identical(narrow.converted(to: .float32), values))
        #expect(Tensor([.nan], shape: [1]).converted(to: dtype).floats()[0].isNaN)
    }

    @Test("bfloat16 rounds to nearest with ties to even")
    func bfloat16() {
        let patterns: [UInt32] = [0x3f80_7fff, 0x3f80_8000, 0x3f80_8001, 0x3f81_8000, 0x7f7f_ffff]
        let rounded = Tensor(patterns.map { Float(bitPattern: $0) }, shape: [5]).converted(to: .bfloat16).floats()
        #expect(rounded.map(\.bitPattern) == [0x3f80_0000, 0x3f80_0000, 0x3f81_0000, 0x3f82_0000, 0x7f80_0000])
    }

    @Test("the first NaN or infinity is found, and integers have none")
    func firstNonFinite() {
        #expect(Tensor([1, 2, .infinity, .nan], shape: [4]).firstNonFinite() == 2)
        #expect(Tensor([1, .nan], shape: [2]).converted(to: .bfloat16).firstNonFinite() == 1)
        #expect(Tensor([1e30], shape: [1]).converted(to: .float16).firstNonFinite() == 0)
        #expect(Tensor([1, 2], shape: [2]).firstNonFinite() == nil)
        #expect(Tensor(ids: [-1], shape: [1]).firstNonFinite() == nil)
        #expect(Tensor(zeros: [0]).firstNonFinite() == nil)
    }

    @Test("integers convert to every float type")
    func integers() {
        for dtype in [DType.float32, .float16, .bfloat16] {
            #expect(Tensor(ids: [-2, 40], shape: [2]).converted(to: dtype).floats() == [-2, 40])
            #expect(Tensor(bytes: [3]).converted(to: dtype).dtype == dtype)
        }
    }
}
