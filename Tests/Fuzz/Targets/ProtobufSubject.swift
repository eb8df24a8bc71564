import CProtobufC
import CWire

/// Unpacks, packs and unpacks again within arenas from 16 bytes to the 1 MiB of a real message.
struct ProtobufSubject: FuzzSubject {
    func run(_ input: [UInt8]) async throws {
        guard let first = input.first else { return }
        let capacity = 16 << Int(first % 17)
        guard let packed = try Self.packed(Array(input.dropFirst()), capacity: capacity) else { return }
        // protobuf-c takes an unknown field of number 0 and refuses what it packs of it; ours are never packed again.
        guard let again = try Self.packed(packed, capacity: capacity) else { return }
        try Finding.require(again == packed, "packing is not stable: \(packed) becomes \(again)")
    }

    /// The canonical bytes of the message in `bytes`; nil when it is refused.
    private static func packed(_ bytes: [UInt8], capacity: Int) throws -> [UInt8]? {
        guard let arena = cw_arena_create(capacity) else { throw Finding("no arena of \(capacity) bytes") }
        defer { cw_arena_destroy(arena) }
        let allocator = cw_arena_allocator(arena)
        guard let message = zoetrope__envelope__unpack(allocator, bytes.count, bytes) else { return nil }
        try Finding.require(cw_arena_used(arena) <= capacity, "the arena of \(capacity) bytes has overflowed")
        var result = [UInt8](repeating: 0, count: zoetrope__envelope__get_packed_size(message))
        let written = zoetrope__envelope__pack(message, &result)
        try Finding.require(written == result.count, "\(written) bytes packed instead of \(result.count)")
        return result
    }
}
