package import Failure
import Glibc

/// Where a socket is bound or connected: a Unix socket file or a TCP address.
///
/// Only these two forms exist, and they come from configuration: libzmq understands more transports than we want to
/// reach, so text from the network never becomes an endpoint.
package enum Endpoint: Sendable, Hashable, CustomStringConvertible {
    case ipc(path: String)
    /// `host` is an IPv4 address, an IPv6 address without brackets, a name (to connect to), or `*` (to bind them all).
    case tcp(host: String, port: UInt16)

    /// The longest path that fits `sockaddr_un`.
    package static let longestPath = 107

    /// Reads `ipc:///run/zoetrope/broker.sock`, `tcp://127.0.0.1:7710` or `tcp://[::1]:7710`.
    ///
    /// - Throws: `bad_endpoint` with the form that is expected.
    package init(parsing text: String) throws(Failure) {
        if text.hasPrefix("ipc://") {
            let path = String(text.dropFirst(6))
            guard !path.isEmpty, !path.utf8.contains(0) else { throw Endpoint.bad(text, "it names no socket file") }
            guard path.utf8.count <= Endpoint.longestPath else {
                throw Endpoint.bad(text, "the path has \(path.utf8.count) bytes; at most \(Endpoint.longestPath)")
            }
            self = .ipc(path: path)
        } else if text.hasPrefix("tcp://") {
            let address = text.dropFirst(6)
            guard let colon = address.lastIndex(of: ":"), let port = UInt16(address[address.index(after: colon)...])
            else {
                throw Endpoint.bad(text, "it must end in a port from 0 to 65535")
            }
            var host = String(address[..<colon])
            if host.hasPrefix("["), host.hasSuffix("]") {
                host = String(host.dropFirst().dropLast())
                guard Endpoint.isIPv6(host) else { throw Endpoint.bad(text, "\(host) is no IPv6 address") }
            } else if host.contains(":") {
                throw Endpoint.bad(text, "an IPv6 address goes into brackets")
            }
            let isName = host.utf8.allSatisfy { byte in
                byte == UInt8(ascii: ".") || byte == UInt8(ascii: "-") || byte == UInt8(ascii: ":")
                    || (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(byte)
                    || (UInt8(ascii: "a")...UInt8(ascii: "z")).contains(byte | 0x20)
            }
            guard !host.isEmpty, isName || host == "*" else { throw Endpoint.bad(text, "\(host) is no host") }
            self = .tcp(host: host, port: port)
        } else {
            throw Endpoint.bad(text, "it begins with neither ipc:// nor tcp://")
        }
    }

    /// Whether only processes of this host can reach it.
    package var isLoopback: Bool {
        switch self {
        case .ipc: true
        case .tcp(let host, _): host == "localhost" || host == "::1" || Endpoint.isIPv4Loopback(host)
        }
    }

    package var description: String {
        switch self {
        case .ipc(let path): "ipc://\(path)"
        case .tcp(let host, let port): host.contains(":") ? "tcp://[\(host)]:\(port)" : "tcp://\(host):\(port)"
        }
    }

    static func isLiteralAddress(_ host: String) -> Bool {
        var address = in_addr()
        return isIPv6(host) || inet_pton(AF_INET, host, &address) == 1
    }

    private static func isIPv6(_ host: String) -> Bool {
        var address = in6_addr()
        return inet_pton(AF_INET6, host, &address) == 1
    }

    /// A literal 127.x.y.z: a name such as `127.example.org` may lead anywhere.
    private static func isIPv4Loopback(_ host: String) -> Bool {
        var address = in_addr()
        return inet_pton(AF_INET, host, &address) == 1 && UInt32(bigEndian: address.s_addr) >> 24 == 127
    }

    private static func bad(_ text: String, _ reason: String) -> Failure {
        Failure(
            "bad_endpoint", "\(text): \(reason)", field: "endpoint",
            remedy: "Write ipc:///path/to/broker.sock or tcp://host:port.")
    }
}
