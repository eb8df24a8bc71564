import CZeroMQ
package import Failure
import Glibc
package import Wire

/// A CURVE key pair (Curve25519): the identity of one process on the bus.
///
/// On disk it is a file of three lines that only its owner may read; the public half alone lies beside it in `NAME.pub`.
package struct KeyPair: Sendable {
    package let publicKey: PublicKey
    /// 32 bytes that never leave the process but into the key file.
    let secret: [UInt8]

    private static let header = "zoetrope-key-1"

    /// A new pair from the system's random numbers.
    ///
    /// - Throws: `curve_unavailable` when this libzmq was built without CURVE.
    package static func generate() throws(Failure) -> KeyPair {
        while true {
            let pair = try generateOne()
            // A key that looks like a flag could not stand on a command line.
            if !pair.publicKey.description.hasPrefix("-") { return pair }
        }
    }

    private static func generateOne() throws(Failure) -> KeyPair {
        var publicText = [CChar](repeating: 0, count: 41)
        var secretText = [CChar](repeating: 0, count: 41)
        guard zmq_has("curve") == 1, zmq_curve_keypair(&publicText, &secretText) == 0,
            let publicKey = PublicKey(text: text(publicText)), let secret = Z85.decode(text(secretText))
        else {
            throw Failure(
                "curve_unavailable", "libzmq cannot make keys: \(lastZMQError())",
                remedy: "Install a libzmq built with libsodium (Debian's is).")
        }
        return KeyPair(publicKey: publicKey, secret: secret)
    }

    /// Reads a key file.
    ///
    /// - Throws: `key_file_unreadable`, `key_file_exposed` when others than its owner may read it, `key_file_invalid`.
    package init(file path: String) throws(Failure) {
        let lines = try KeyFile.read(path, isSecret: true).split(separator: "\n").map(String.init)
        guard lines.count == 3, lines[0] == Self.header, lines[1].hasPrefix("public "), lines[2].hasPrefix("secret "),
            let publicKey = PublicKey(text: String(lines[1].dropFirst(7))),
            let secret = Z85.decode(String(lines[2].dropFirst(7))), secret.count == PublicKey.byteCount,
            Self.publicHalf(of: secret) == publicKey
        else {
            throw Failure(
                "key_file_invalid", "\(path) is no key file, or its halves do not belong together", field: "key",
                remedy: "Make one with `zoetrope keys new NAME`.")
        }
        self.init(publicKey: publicKey, secret: secret)
    }

    private init(publicKey: PublicKey, secret: [UInt8]) {
        self.publicKey = publicKey
        self.secret = secret
    }

    /// The key with which a broker of this identity signs tickets.
    package var ticketMaster: TicketKey { .master(secret: secret) }

    /// Writes the pair to a new file of mode 0600, and its public half to `publicPath`.
    ///
    /// - Throws: `key_file_exists` rather than overwrite a key, `io_error`.
    package func save(to path: String, publicPath: String) throws(Failure) {
        let text = "\(Self.header)\npublic \(publicKey)\nsecret \(Z85.encode(secret))\n"
        try KeyFile.create(path, text, mode: 0o600)
        try KeyFile.create(publicPath, "\(publicKey)\n", mode: 0o644)
    }

    private static func publicHalf(of secret: [UInt8]) -> PublicKey? {
        var publicText = [CChar](repeating: 0, count: 41)
        guard zmq_curve_public(&publicText, Z85.encode(secret)) == 0 else { return nil }
        return PublicKey(text: text(publicText))
    }

    private static func text(_ characters: [CChar]) -> String {
        String(decoding: characters.prefix { $0 != 0 }.map(UInt8.init(bitPattern:)), as: UTF8.self)
    }
}

extension PublicKey {
    /// A key as an option gives it: its 40 characters, or a file that holds them.
    ///
    /// - Throws: `public_key_invalid`, `key_file_unreadable`.
    package init(option: String) throws(Failure) {
        // The file first: a path can have 40 characters, all of them Z85.
        if access(option, F_OK) != 0, let key = PublicKey(text: option) {
            self = key
            return
        }
        let text = try KeyFile.read(option, isSecret: false).split(separator: "\n").first.map(String.init) ?? ""
        guard let key = PublicKey(text: text) else {
            throw Failure(
                "public_key_invalid", "\(option) holds no public key", field: "broker-public-key",
                remedy: "Give the 40 characters that `zoetrope keys new` printed, or the NAME.pub file.")
        }
        self = key
    }
}
