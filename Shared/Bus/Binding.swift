import Failure
import Glibc

/// Binding a ROUTER safely: no open port by accident, no live socket file taken away, no stale one in the way.
enum Binding {
    /// - Parameters:
    ///   - insecure: whether a TCP address that other hosts reach may be bound without encryption.
    ///   - security: puts every TCP address behind CURVE, loopback as well.
    /// - Returns: the endpoint peers connect to, with the real port.
    /// - Throws: `insecure_endpoint`, `endpoint_in_use`, `endpoint_unusable`.
    static func bind(
        _ socket: Socket, _ endpoint: Endpoint, insecure: Bool, _ security: BusSecurity?
    ) throws(Failure) -> Endpoint {
        guard endpoint.isLoopback || insecure || security != nil else {
            throw Failure(
                "insecure_endpoint", "\(endpoint) is reachable from other hosts and this process has no key",
                field: "endpoint",
                remedy: "Make a key with `zoetrope keys new NAME` and give it with --key (docs/security.md); "
                    + "or bind ipc:// or tcp://127.0.0.1. --insecure allows it without any protection.")
        }
        switch endpoint {
        case .ipc(let path):
            try removeStaleFile(path)
            socket.servePlainly(isHandled: security != nil)
            socket.admitOwnUserOnly()
            _ = try socket.bind(endpoint.description)
            socket.own(file: path)
            chmod(path, 0o600)
            return endpoint
        case .tcp(let host, let port):
            if let security { socket.serveCurve(security.identity) } else { socket.servePlainly(isHandled: false) }
            // libzmq binds addresses and interfaces, not names.
            let address = host == "localhost" ? "127.0.0.1" : host
            let bound = try socket.bind(Endpoint.tcp(host: address, port: port).description)
            guard let colon = bound.lastIndex(of: ":"), let real = UInt16(bound[bound.index(after: colon)...]) else {
                throw Failure("endpoint_unusable", "\(endpoint) was bound as \(bound)", field: "endpoint")
            }
            return .tcp(host: address, port: real)
        }
    }

    /// libzmq unlinks whatever lies at the path, a living server's socket as well: look first.
    static func removeStaleFile(_ path: String) throws(Failure) {
        guard path.utf8.count <= Endpoint.longestPath else {
            throw Failure(
                "bad_endpoint", "\(path) has \(path.utf8.count) bytes; socket paths end at \(Endpoint.longestPath)",
                field: "endpoint", remedy: "Choose a shorter run directory.")
        }
        var status = stat()
        guard lstat(path, &status) == 0 else { return }
        guard status.st_mode & S_IFMT == S_IFSOCK else {
            throw Failure(
                "endpoint_unusable", "\(path) exists and is not a socket", field: "endpoint", remedy: "Move it away.")
        }
        guard !isAnswered(path) else {
            throw Failure(
                "endpoint_in_use", "somebody listens on \(path)", field: "endpoint",
                remedy: "Stop that process, or choose another run directory.")
        }
        unlink(path)
    }

    private static func isAnswered(_ path: String) -> Bool {
        // Non-blocking: a server that does not accept must not hold up the bus thread.
        let type = Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue) | Int32(SOCK_NONBLOCK.rawValue)
        let descriptor = socket(AF_UNIX, type, 0)
        guard descriptor >= 0 else { return true }
        defer { close(descriptor) }
        var address = sockaddr_un()
        address.sun_family = sa_family_t(AF_UNIX)
        withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: path.utf8) }
        return withUnsafePointer(to: &address) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                // Only a refusal says that nobody is there.
                connect(descriptor, $0, socklen_t(MemoryLayout<sockaddr_un>.size)) == 0
                    || (errno != ECONNREFUSED && errno != ENOENT)
            }
        }
    }
}
