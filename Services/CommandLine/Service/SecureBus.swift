package import Bus
package import Failure
import Foundation
import Wire

/// The bus of a `zoetrope serve` that workers of other machines join: TCP behind CURVE, with keys of its own.
///
/// Gateway and commands of this machine go on using the local socket; its workers must serve others, so they have a key.
package struct SecureBus: Sendable {
    /// Name of the key that all workers of this machine share.
    package static let localName = "local-workers"

    /// Where the broker listens.
    package let endpoint: Endpoint
    /// Under which address other machines reach this one.
    package let advertiseHost: String
    /// First port of the data plane, one a process, the broker's first; nil = any free ones.
    package let firstDataPort: UInt16?
    /// Holds `broker.key`, `local-workers.key` and `authorized-keys`.
    package let keysDirectory: String

    /// Makes what is missing of the keys: the broker's, the local workers', and the list that admits them.
    ///
    /// - Parameters:
    ///   - listen: `tcp://HOST:PORT`.
    ///   - advertiseHost: nil = the address that is listened on.
    ///   - keysDirectory: made with mode 0700.
    /// - Throws: `bad_endpoint`, `bus_address_unknown` for an address that says nothing to others, and what the keys say.
    package init(
        listen: String, advertiseHost: String?, firstDataPort: UInt16?, keysDirectory: String
    ) throws(Failure) {
        endpoint = try Endpoint(parsing: listen)
        guard case .tcp(let host, let port) = endpoint, port != 0 else {
            throw Failure(
                "bad_endpoint", "\(listen) is no TCP address with a port", field: "bus-listen",
                remedy: "Write tcp://HOST:7710 with this machine's address.")
        }
        guard let reachable = advertiseHost ?? (["*", "0.0.0.0", "::"].contains(host) ? nil : host) else {
            throw Failure(
                "bus_address_unknown", "\(listen) does not say under which address others reach this machine",
                field: "bus-listen", remedy: "Name it with --advertise-host, or listen on it.")
        }
        self.advertiseHost = reachable
        self.firstDataPort = firstDataPort
        self.keysDirectory = keysDirectory
        try prepareKeys()
    }

    package var brokerKey: String { "\(keysDirectory)/broker.key" }
    package var brokerPublicKey: String { "\(keysDirectory)/broker.pub" }
    package var localKey: String { "\(keysDirectory)/\(Self.localName).key" }

    /// Where this machine's own workers connect to.
    package var connectEndpoint: Endpoint {
        guard case .tcp(let host, let port) = endpoint else { return endpoint }
        return ["*", "0.0.0.0", "::"].contains(host) ? .tcp(host: advertiseHost, port: port) : endpoint
    }

    /// What somebody does on another machine to add a worker, line by line.
    package func invitation() throws(Failure) -> [String] {
        let pin = try PublicKey(option: brokerPublicKey)
        return [
            "a worker on another machine: `zoetrope keys new gpu-2` there, then here",
            "  zoetrope keys authorize gpu-2 'KEY THAT IT PRINTED' --role worker --directory \(keysDirectory)",
            "and there",
            "  zoetrope-denoiser --broker \(connectEndpoint) --key ~/.config/zoetrope/keys/gpu-2.key \\",
            "      --broker-public-key '\(pin)' --model FOLDER",
        ]
    }

    private func prepareKeys() throws(Failure) {
        let place = KeyPlace(folder: keysDirectory)
        let folder = try place.makeFolder()
        for name in ["broker", Self.localName] {
            let path = "\(folder)/\(name).key"
            if FileManager.default.fileExists(atPath: path) { continue }
            try KeyPair.generate().save(to: path, publicPath: "\(folder)/\(name).pub")
        }
        let own = try KeyPair(file: localKey).publicKey
        try place.change { (list) throws(Failure) in
            // What an operator has made of the key since is not ours to undo.
            if list.principals.contains(where: { $0.key == own }) { return }
            try list.authorize(Principal(name: Self.localName, role: .worker, key: own))
        }
    }
}
