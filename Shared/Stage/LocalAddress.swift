import Bus
import Failure
import Glibc

/// Which of this host's addresses others can reach it at.
enum LocalAddress {
    /// The address from which packets to `endpoint` leave, found without sending any; loopback for ipc.
    ///
    /// Fails with `broker_address_unknown` when the host name resolves to nothing or no route leads there.
    static func facing(_ endpoint: Endpoint) throws(Failure) -> String {
        guard case .tcp(let host, let port) = endpoint else { return "127.0.0.1" }
        var hints = addrinfo()
        hints.ai_family = AF_UNSPEC
        hints.ai_socktype = Int32(SOCK_DGRAM.rawValue)
        var list: UnsafeMutablePointer<addrinfo>?
        guard getaddrinfo(host, String(port), &hints, &list) == 0 else { throw unknown(host) }
        defer { freeaddrinfo(list) }
        var entry = list
        while let candidate = entry?.pointee {
            if let address = source(of: candidate) { return address }
            entry = candidate.ai_next
        }
        throw unknown(host)
    }

    /// Connecting a datagram socket only looks up the route.
    private static func source(of destination: addrinfo) -> String? {
        let descriptor = socket(destination.ai_family, destination.ai_socktype, 0)
        guard descriptor >= 0 else { return nil }
        defer { close(descriptor) }
        guard connect(descriptor, destination.ai_addr, destination.ai_addrlen) == 0 else { return nil }
        var storage = sockaddr_storage()
        var length = socklen_t(MemoryLayout<sockaddr_storage>.size)
        var text = [CChar](repeating: 0, count: Int(NI_MAXHOST))
        let status = withUnsafeMutablePointer(to: &storage) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { address -> Int32 in
                guard getsockname(descriptor, address, &length) == 0 else { return -1 }
                return getnameinfo(address, length, &text, socklen_t(text.count), nil, 0, NI_NUMERICHOST)
            }
        }
        guard status == 0 else { return nil }
        return String(decoding: text.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
    }

    private static func unknown(_ host: String) -> Failure {
        Failure(
            "broker_address_unknown", "no route to the broker's host \(host) was found", field: "broker",
            remedy: "Check the name, or give this worker's own address with --advertise-host.")
    }
}
