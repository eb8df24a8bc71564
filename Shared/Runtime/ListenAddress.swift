package import Failure

/// Where an HTTP server listens: `127.0.0.1:8080`, `[::1]:8080` or `localhost:8080`; port 0 takes any free one.
package struct ListenAddress: Sendable, Hashable, CustomStringConvertible {
    package var host: String
    package var port: Int

    package init(host: String, port: Int) {
        self.host = host
        self.port = port
    }

    /// - Throws: `listen_address_invalid`.
    package init(parsing text: String) throws(Failure) {
        let malformed = Failure(
            "listen_address_invalid", "\"\(text)\" is no address to listen on.", field: "listen",
            remedy: "Write host:port, such as 127.0.0.1:8080 or [::1]:8080.")
        guard let colon = text.lastIndex(of: ":"), let port = UInt16(text[text.index(after: colon)...]) else {
            throw malformed
        }
        var host = String(text[..<colon])
        if host.hasPrefix("["), host.hasSuffix("]") {
            host = String(host.dropFirst().dropLast())
        } else if host.contains(":") {
            throw malformed
        }
        guard !host.isEmpty else { throw malformed }
        self.host = host
        self.port = Int(port)
    }

    /// Whether only this machine can connect.
    package var isLoopback: Bool {
        if host == "localhost" || host == "::1" { return true }
        let octets = host.split(separator: ".", omittingEmptySubsequences: false).map { UInt8($0) }
        return octets.count == 4 && octets.allSatisfy { $0 != nil } && octets[0] == 127
    }

    /// Refuses an address that others can reach: requests are neither authenticated nor encrypted.
    package func checkReach(insecure: Bool) throws(Failure) {
        guard isLoopback || insecure else {
            throw Failure(
                "listen_address_insecure",
                "\(self) can be reached from other machines, and requests are not authenticated.",
                field: "listen", remedy: "Listen on 127.0.0.1, or allow it with --insecure.")
        }
    }

    package var description: String { host.contains(":") ? "[\(host)]:\(port)" : "\(host):\(port)" }
}
