import Compute
import Tensor
import TestSupport
import Testing

@Suite("Storage pool")
struct StoragePoolTests {
    private let page = 2 << 20

    @Test("free pages of small tensors make room for a big one")
    func joined() {
        let pool = StoragePool()
        var small = (0..<3).map { _ in pool.tensor([page], .uint8) }
        small.removeAll()
        #expect(pool.freeBytes == 3 * page)
        var big = pool.tensor([3 * page], .uint8)
        #expect(pool.freeBytes == 0)
        _ = big.withUnsafeMutableBytes { $0.initializeMemory(as: UInt8.self, repeating: 7) }
        #expect(big.withUnsafeBytes { $0.allSatisfy { $0 == 7 } })
    }

    @Test("what a smaller tensor does not need stays free")
    func cut() {
        let pool = StoragePool()
        do { _ = pool.tensor([5 * page - 9], .uint8) }
        #expect(pool.freeBytes == 5 * page)
        let small = pool.tensor([page + 1], .uint8)
        #expect(pool.freeBytes == 3 * page)
        #expect(small.byteCount == page + 1)
    }

    @Test("pages beyond the limit go back to the system, unless as many are in use")
    func limited() {
        let pool = StoragePool(keptBytes: 2 * page)
        do { _ = pool.tensor([4 * page], .uint8) }
        #expect(pool.freeBytes == 0)
        let busy = pool.tensor([6 * page], .uint8)
        do { _ = pool.tensor([4 * page], .uint8) }
        #expect(pool.freeBytes == 4 * page)
        withExtendedLifetime(busy) {}
    }

    @Test("tensors of changing sizes never share memory")
    func random() {
        let pool = StoragePool(keptBytes: 64 << 20)
        var random = SeededGenerator(seed: 11)
        var living: [(tensor: Tensor, mark: UInt8)] = []
        for step in 0..<300 {
            if living.count > 6 { living.remove(at: Int(random.next() % UInt64(living.count))) }
            let size = 1 + Int(random.next() % UInt64(4 * page)), mark = UInt8(truncatingIfNeeded: step)
            var tensor = pool.tensor([size], .uint8)
            tensor.withUnsafeMutableBytes { bytes in
                for index in stride(from: 0, to: size, by: 4096) { bytes[index] = mark }
                bytes[size - 1] = mark
            }
            living.append((tensor, mark))
            for (tensor, mark) in living {
                let isWhole = tensor.withUnsafeBytes { bytes in
                    bytes[bytes.count - 1] == mark
                        && stride(from: 0, to: bytes.count, by: 4096).allSatisfy { bytes[$0] == mark }
                }
                #expect(isWhole)
            }
        }
    }
}
