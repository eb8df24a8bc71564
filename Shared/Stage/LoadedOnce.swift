package import Failure
import Synchronization

/// Values that are costly to make, made on first use and kept: a network per dtype, an embedding.
///
/// `load` runs under the lock, so two tasks never load one network twice; callers are on compute threads.
package final class LoadedOnce<Key: Hashable & Sendable, Value: Sendable>: Sendable {
    private let values = Mutex<[Key: Value]>([:])

    package init() {}

    /// The value of `key`, made by `load` where there is none yet; a failed `load` leaves none.
    package func value(for key: Key, load: () throws(Failure) -> Value) throws(Failure) -> Value {
        try values.withLock { (values: inout sending [Key: Value]) throws(Failure) -> Value in
            if let value = values[key] { return value }
            let value = try load()
            values[key] = value
            return value
        }
    }
}
