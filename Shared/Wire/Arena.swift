import CWire
import Failure

/// The memory of one packing or unpacking: bounded, and freed in one piece however many structs lie in it.
struct Arena: ~Copyable {
    let handle: OpaquePointer

    init(capacity: Int) throws(Failure) {
        guard let handle = cw_arena_create(capacity) else {
            throw Failure("out_of_memory", "cannot allocate \(capacity) bytes for a message")
        }
        self.handle = handle
    }

    deinit { cw_arena_destroy(handle) }
}
