import Runtime
import Wire

/// A holder of blobs as a consumer reaches it: where, and who must be there.
struct Holder: Hashable, CustomStringConvertible {
    var endpoint: Endpoint
    /// nil on ipc and on TCP without CURVE.
    var key: PublicKey?

    var isSocketFile: Bool {
        if case .ipc = endpoint { true } else { false }
    }

    var description: String { endpoint.description }
}

extension Location {
    /// The holder at this location as this process reaches it; nil where it cannot be reached.
    ///
    /// - Parameter isKeyed: whether this process has a key. It then trusts no TCP without CURVE: whoever named the
    ///   location could lead it anywhere.
    func holder(in runDirectory: RunDirectory, isKeyed: Bool) -> Holder? {
        guard let endpoint = endpoint(in: runDirectory) else { return nil }
        switch self {
        case .ipc: return Holder(endpoint: endpoint)
        case .tcp: return isKeyed ? nil : Holder(endpoint: endpoint)
        case .curve(_, _, let key): return isKeyed ? Holder(endpoint: endpoint, key: key) : nil
        }
    }
}
