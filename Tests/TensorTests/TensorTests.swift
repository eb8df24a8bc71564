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
}
