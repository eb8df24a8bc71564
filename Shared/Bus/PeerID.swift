import Wire

/// A peer of a ROUTER for as long as its connection lasts: a peer that reconnects is another one.
///
/// Who it is follows from its HELLO; ids are libzmq's own choice and never set by peers, which could take each other's.
package struct PeerID: Sendable, Hashable, CustomStringConvertible {
    let bytes: [UInt8]

    init(_ bytes: UnsafeRawBufferPointer) { self.bytes = Array(bytes) }

    package var description: String { hexadecimal(bytes) }
}
