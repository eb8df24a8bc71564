import Bus
import FoundationEssentials
import Tensor
import Testing

@Suite struct MemoryStoreTests {
    private func filed(_ size: Int, _ seed: UInt8) throws -> Tensor {
        var file = try SpillFile(directory: FileManager.default.temporaryDirectory.path)
        try file.append(Tensor(bytes: [UInt8](repeating: seed, count: size)))
        return try file.tensor(shape: [size], dtype: .uint8)
    }

    @Test("the oldest blobs in memory make room; those in files take none and stay")
    func eviction() async throws {
        let store = MemoryStore(budgetBytes: 1000)
        let waiting = [try filed(5000, 1), try filed(5000, 2)].map { store.insert($0) }
        let first = store.insert(Tensor(bytes: [UInt8](repeating: 3, count: 600)))
        let second = store.insert(Tensor(bytes: [UInt8](repeating: 4, count: 600)))
        #expect(await store.blob(first) == nil, "both do not fit")
        #expect(await store.blob(second) != nil)
        for digest in waiting { #expect(await store.blob(digest)?.isInFile == true) }
        #expect(store.totalBytes == 10_600, "beats and drains count all of them")
        for digest in waiting { store.release(digest) }
        #expect(store.totalBytes == 600)
        let large = store.insert(Tensor(bytes: [UInt8](repeating: 5, count: 4000)))
        #expect(await store.blob(large) != nil && store.totalBytes == 4000, "the newest stays however large it is")
    }
}
