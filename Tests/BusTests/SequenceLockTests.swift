import Bus
import CPlatform
import Glibc
import TestSupport
import Testing

@Suite("What shared memory is made of") struct SequenceLockTests {
    @Test("bytes that were read under their generation are those of that generation, whatever the writer does")
    func tornReads() async throws {
        let count = 64 << 10
        var mapping: UnsafeMutableRawPointer?
        let descriptor = cs_memory_create("lock", UInt64(count + 4096), &mapping)
        try #require(descriptor >= 0)
        defer { close(descriptor) }
        nonisolated(unsafe) let address = try #require(mapping)
        var size: UInt64 = 0
        nonisolated(unsafe) let view = try #require(cs_memory_attach(descriptor, 1 << 30, &size))
        let rounds: UInt64 = 3000
        let writer = Task.detached {
            for round in 1...rounds {
                cs_memory_begin(address, 2 * round - 1)
                memset(address + 4096, Int32(round & 0xff), count)
                cs_memory_publish(address, 2 * round)
            }
        }
        let whole = Task.detached { () -> (good: Int, torn: Int) in
            var copy = [UInt8](repeating: 0, count: count)
            var (good, torn) = (0, 0)
            while true {
                let generation = cs_memory_word(view)
                guard generation.isMultiple(of: 2), generation > 0 else { continue }
                if cs_memory_read(&copy, view + 4096, count, view, generation) {
                    let expected = UInt8(truncatingIfNeeded: generation / 2)
                    #expect(copy.allSatisfy { $0 == expected })
                    good += 1
                } else {
                    torn += 1
                }
                if generation == 2 * rounds { return (good, torn) }
            }
        }
        await writer.value
        #expect(await whole.value.good > 0)
        #expect(!cs_memory_read(address + 4096, view + 4096, 8, view, 2 * rounds - 2))
        cs_memory_detach(view, size)
        cs_memory_detach(address, UInt64(count + 4096))
    }

    @Test("extents never overlap, and once all are given back there is one hole again")
    func extents() {
        var generator = SeededGenerator(seed: 7)
        let whole = 8192..<(8192 + 200 * ExtentList.alignment)
        var list = ExtentList(whole)
        var taken: [Range<Int>] = []
        for _ in 0..<5000 {
            if Bool.random(using: &generator), !taken.isEmpty {
                list.give(taken.remove(at: Int.random(in: taken.indices, using: &generator)))
            } else if let extent = list.fit(Int.random(in: 0...(40 * ExtentList.alignment), using: &generator)) {
                #expect(!extent.isEmpty && extent.lowerBound.isMultiple(of: ExtentList.alignment))
                #expect(extent.lowerBound >= whole.lowerBound && extent.upperBound <= whole.upperBound)
                #expect(!taken.contains { $0.overlaps(extent) })
                list.take(extent)
                taken.append(extent)
            }
            let used = taken.reduce(0) { $0 + $1.count }
            #expect(list.free.reduce(0) { $0 + $1.count } == whole.count - used)
        }
        #expect(list.highWater <= whole.upperBound)
        for extent in taken { list.give(extent) }
        #expect(list.free == [whole])
        #expect(list.fit(whole.count) == whole && list.fit(whole.count + 1) == nil)
    }
}
