package import Wire

/// A peer of a ROUTER for as long as its connection lasts: a peer that reconnects is another one.
///
/// Who it is follows from its HELLO; ids are libzmq's own choice and never set by peers, which could take each other's.
package struct PeerID: Sendable, Hashable, CustomStringConvertible {
    let bytes: [UInt8]
    /// The key it proved to own; nil for a peer on ipc (a process of our own user) or on TCP without CURVE.
    package let key: PublicKey?

    init(_ bytes: UnsafeRawBufferPointer, key: PublicKey? = nil) {
        self.bytes = Array(bytes)
        self.key = key
    }

    package var description: String { hexadecimal(bytes) }
}
