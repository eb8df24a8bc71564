import Bus
import Failure
import Glibc

/// The numeric address under which other hosts find this one. Locations on the wire are numeric on purpose.
enum AdvertisedAddress {
    /// - Parameters:
    ///   - host: what the operator named, or nil to go by the endpoints the broker listens on.
    ///   - endpoints: TCP endpoints; `*` and wildcard addresses stand for the first interface.
    /// - Throws: `advertise_host_unknown`.
    static func resolve(_ host: String?, listeningOn endpoints: [Endpoint]) throws(Failure) -> String {
        if let host { return try numeric(host) }
        let hosts = endpoints.compactMap { if case .tcp(let host, _) = $0 { host } else { nil } }
        // An address that others reach says more than loopback beside it.
        let reachable = endpoints.filter { !$0.isLoopback }
            .compactMap { if case .tcp(let host, _) = $0 { host } else { nil } }
        let chosen = reachable.first ?? hosts.first ?? "127.0.0.1"
        guard ["*", "0.0.0.0", "::"].contains(chosen) else { return try numeric(chosen) }
        return interfaceAddress() ?? "127.0.0.1"
    }

    /// The address of the first interface that is up and leads beyond this machine; IPv4 before IPv6.
    private static func interfaceAddress() -> String? {
        var first: UnsafeMutablePointer<ifaddrs>?
        guard getifaddrs(&first) == 0 else { return nil }
        defer { freeifaddrs(first) }
        for family in [AF_INET, AF_INET6] {
            for interface in sequence(first: first, next: { $0?.pointee.ifa_next }) {
                guard let interface = interface?.pointee, let address = interface.ifa_addr,
                    Int32(address.pointee.sa_family) == family,
                    interface.ifa_flags & UInt32(IFF_UP) != 0,
                    interface.ifa_flags & UInt32(IFF_LOOPBACK) == 0
                else { continue }
                let size = family == AF_INET ? MemoryLayout<sockaddr_in>.size : MemoryLayout<sockaddr_in6>.size
                // A link-local address means something only together with its interface.
                if let found = try? numeric(address, socklen_t(size)), !found.contains("%") { return found }
            }
        }
        return nil
    }

    private static func text(_ characters: [CChar]) -> String {
        String(decoding: characters.prefix { $0 != 0 }.map(UInt8.init(bitPattern:)), as: UTF8.self)
    }

    private static func numeric(_ host: String) throws(Failure) -> String {
        var hints = addrinfo()
        hints.ai_socktype = Int32(SOCK_STREAM.rawValue)
        var found: UnsafeMutablePointer<addrinfo>?
        let code = getaddrinfo(host, nil, &hints, &found)
        defer { if let found { freeaddrinfo(found) } }
        guard code == 0, let first = found?.pointee else { throw unknown(host, String(cString: gai_strerror(code))) }
        do throws(AddressError) {
            return try numeric(first.ai_addr, first.ai_addrlen)
        } catch {
            throw unknown(host, error.detail)
        }
    }

    private struct AddressError: Error { var detail: String }

    private static func numeric(
        _ address: UnsafeMutablePointer<sockaddr>?, _ length: socklen_t
    ) throws(AddressError) -> String {
        var name = [CChar](repeating: 0, count: Int(NI_MAXHOST))
        let code = getnameinfo(address, length, &name, socklen_t(name.count), nil, 0, NI_NUMERICHOST)
        guard code == 0 else { throw AddressError(detail: String(cString: gai_strerror(code))) }
        return text(name)
    }

    private static func unknown(_ host: String, _ detail: String) -> Failure {
        Failure(
            "advertise_host_unknown", "the host \(host) has no address: \(detail)", field: "advertise-host",
            remedy: "Name an address of this machine that the workers reach, with --advertise-host.")
    }
}
