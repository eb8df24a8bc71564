package import Runtime
package import Wire

extension Location {
    /// Where to connect for this location from a process with this run directory; nil where it cannot be reached (a
    /// socket file of another host).
    package func endpoint(in runDirectory: RunDirectory) -> Endpoint? {
        switch self {
        case .tcp(let address, let port), .curve(let address, let port, _): .tcp(host: address, port: port)
        case .ipc(let host, let socket):
            host == runDirectory.hostIdentity ? .ipc(path: runDirectory.socketPath(socket)) : nil
        }
    }
}

extension Endpoint {
    /// The location to announce for a bound endpoint; nil for one that peers could not connect to as it stands: a
    /// wildcard address, a name, or a socket file outside the run directory.
    ///
    /// - Parameter advertised: the address to announce in place of a wildcard (`--advertise-host`).
    package func location(in runDirectory: RunDirectory, advertising advertised: String? = nil) -> Location? {
        switch self {
        case .ipc(let path):
            guard let slash = path.lastIndex(of: "/"), path[..<slash] == runDirectory.path else { return nil }
            return .ipc(host: runDirectory.hostIdentity, socket: String(path[path.index(after: slash)...]))
        case .tcp(let host, let port):
            let isWildcard = host == "0.0.0.0" || host == "::"
            if Endpoint.isLiteralAddress(host), !isWildcard { return .tcp(address: host, port: port) }
            return advertised.map { .tcp(address: $0, port: port) }
        }
    }
}

extension Location {
    /// The same location behind CURVE with this key; ipc stays as it is.
    package func keyed(_ key: PublicKey?) -> Location {
        guard let key, case .tcp(let address, let port) = self else { return self }
        return .curve(address: address, port: port, key: key)
    }
}
