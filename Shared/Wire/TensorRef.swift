package import Tensor

/// Where a blob can be fetched. Structured on purpose: an endpoint string from the network could name any transport.
package enum Location: Sendable, Hashable {
    /// A data-plane ROUTER at an IPv4 or IPv6 address (textual form) and port.
    case tcp(address: String, port: UInt16)
    /// The same behind CURVE: only the owner of the secret half of `key` can be the holder.
    case curve(address: String, port: UInt16, key: PublicKey)
    /// A data-plane ROUTER on this host: the file name (no slash) of a socket inside the run directory of the broker
    /// whose host identity is `host` (boot id + run directory); usable only where that identity is ours.
    case ipc(host: String, socket: String)
}

/// A tensor that lies elsewhere: its identity, type, shape and where to get it.
package struct TensorRef: Sendable, Hashable {
    package var digest: Digest
    package var dtype: DType
    package var shape: [Int]
    package var locations: [Location]

    package init(digest: Digest, dtype: DType, shape: [Int], locations: [Location]) {
        self.digest = digest
        self.dtype = dtype
        self.shape = shape
        self.locations = locations
    }

    /// Bytes of the dense row-major tensor.
    package var byteCount: Int { shape.reduce(1, *) * dtype.byteCount }
}

/// A tensor reference under the name that the task's contract gives it (`prompt_embeds`, `latents`, `frames`).
package struct NamedRef: Sendable, Hashable {
    package var name: String
    package var ref: TensorRef

    package init(name: String, ref: TensorRef) {
        self.name = name
        self.ref = ref
    }
}
