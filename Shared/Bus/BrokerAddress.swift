package import Failure
import Wire

/// One broker that a process serves or uses: where it is, who it must be.
package struct BrokerAddress: Sendable {
    /// The cell's name where the operator gave it; nil takes whatever the broker says.
    package var cell: String?
    package var endpoint: Endpoint
    /// This process's key and this broker's; nil = ipc, or TCP without protection.
    package var credentials: Credentials?

    package init(cell: String? = nil, endpoint: Endpoint, credentials: Credentials? = nil) {
        self.cell = cell
        self.endpoint = endpoint
        self.credentials = credentials
    }

    /// What `--broker` names, once for each cell: `tcp://HOST:PORT`, `NAME=tcp://HOST:PORT`, or several with commas
    /// between them, as the environment gives them.
    ///
    /// - Parameters:
    ///   - texts: the values of `--broker`; none = the one broker at `fallback`.
    ///   - key: this process's key file.
    ///   - brokerPublicKeys: one for all brokers, or one for each in the same order.
    /// - Throws: `cells_invalid`, and the codes of `Endpoint`, `CellName` and `Credentials`.
    package static func parse(
        _ texts: [String], fallback: Endpoint, key: String?, brokerPublicKeys: [String]
    ) throws(Failure) -> [BrokerAddress] {
        var addresses: [BrokerAddress] = []
        for text in texts.flatMap(parts) { addresses.append(try BrokerAddress(parsing: text)) }
        if addresses.isEmpty { addresses = [BrokerAddress(endpoint: fallback)] }
        guard addresses.count <= Limits.cells else {
            throw invalid("\(addresses.count) brokers are given; at most \(Limits.cells)")
        }
        guard Set(addresses.map(\.endpoint)).count == addresses.count else { throw invalid("a broker is given twice") }
        let names = addresses.compactMap(\.cell)
        guard Set(names).count == names.count else { throw invalid("two brokers have one name") }
        let keys = brokerPublicKeys.flatMap { $0.split(separator: ",").map(String.init) }
        guard keys.count <= 1 || keys.count == addresses.count else {
            throw invalid("\(keys.count) public keys are given for \(addresses.count) brokers")
        }
        for index in addresses.indices {
            addresses[index].credentials = try Credentials.load(
                key: key, brokerPublicKey: keys.count > 1 ? keys[index] : keys.first,
                broker: addresses[index].endpoint)
        }
        return addresses
    }

    private init(parsing text: String) throws(Failure) {
        guard let scheme = text.firstRange(of: "://"),
            let sign = text[..<scheme.lowerBound].firstIndex(of: "=")
        else {
            self.init(endpoint: try Endpoint(parsing: text))
            return
        }
        let name = try CellName(String(text[..<sign]))
        self.init(cell: name.text, endpoint: try Endpoint(parsing: String(text[text.index(after: sign)...])))
    }

    /// A comma separates only where another endpoint follows: a socket's path may hold one.
    private static func parts(of text: String) -> [String] {
        text.split(separator: ",").reduce(into: []) { parts, piece in
            if parts.isEmpty || piece.contains("://") {
                parts.append(String(piece))
            } else {
                parts[parts.count - 1] += ",\(piece)"
            }
        }
    }

    private static func invalid(_ message: String) -> Failure {
        Failure(
            "cells_invalid", message, field: "broker",
            remedy: "Give each cell once: --broker north=tcp://10.0.0.1:7710 --broker south=tcp://10.0.0.2:7710.")
    }
}
