import CWire
import Testing

@Suite struct ArenaTests {
    @Test("an arena hands out zeroed, aligned memory up to its capacity and not a byte more")
    func capacity() throws {
        let arena = try #require(cw_arena_create(100))
        defer { cw_arena_destroy(arena) }
        let first = try #require(cw_arena_allocate(arena, 33))
        #expect(UInt(bitPattern: first) % 16 == 0)
        first.initializeMemory(as: UInt8.self, repeating: 0xff, count: 33)
        let second = try #require(cw_arena_allocate(arena, 52))
        #expect(UInt(bitPattern: second) == UInt(bitPattern: first) + 48)
        #expect(cw_arena_allocate(arena, 1) == nil)
        #expect(cw_arena_allocate(arena, .max) == nil)
        #expect(cw_arena_used(arena) == 100)

        cw_arena_reset(arena)
        let again = try #require(cw_arena_allocate(arena, 33))
        #expect(again == first)
        #expect(UnsafeRawBufferPointer(start: again, count: 33).allSatisfy { $0 == 0 })
    }
}
