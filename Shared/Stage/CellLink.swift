import Bus
import Wire

/// A worker's connection to one broker, and the way to that broker's blobs.
struct CellLink: Sendable {
    /// The name that the operator gave the broker; nil takes any.
    let expectedName: String?
    let client: ControlClient
    let data: DataClient
    let store: DurableStore
}

/// A lease and the broker that gave it: task names are unique within a cell only.
struct HeldLease: Sendable, Hashable {
    /// Place of the broker in the worker's list.
    let cell: Int
    let lease: Lease
}
