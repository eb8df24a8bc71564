package import Failure
import Wire

/// What an administrator shows to a gateway over HTTP: one line in a file that only its owner may read.
package struct AdminToken: Sendable, Hashable {
    package let text: String

    private static let lengths = 32...256

    /// 256 bits from the system's random numbers, in hexadecimal.
    package static func generate() -> AdminToken {
        var random = SystemRandomNumberGenerator()
        let words = (0..<4).map { _ in String(random.next() as UInt64, radix: 16) }
        return AdminToken(text: words.map { String(repeating: "0", count: 16 - $0.count) + $0 }.joined())
    }

    private init(text: String) { self.text = text }

    /// Reads a token file.
    ///
    /// - Throws: `key_file_unreadable`; `key_file_exposed` when others than its owner may read it;
    ///   `admin_token_invalid` for a token that could be guessed or sent by no header.
    package init(file path: String) throws(Failure) {
        let text = try KeyFile.read(path, isSecret: true).split(separator: "\n").first.map(String.init) ?? ""
        let isVisible = text.utf8.allSatisfy { (UInt8(ascii: "!")...UInt8(ascii: "~")).contains($0) }
        guard Self.lengths.contains(text.utf8.count), isVisible else {
            throw Failure(
                "admin_token_invalid",
                "\(path) holds no token of \(Self.lengths.lowerBound) to \(Self.lengths.upperBound) visible characters",
                field: "admin-token-file", remedy: "Make one with `zoetrope keys token NAME`.")
        }
        self.text = text
    }

    /// Writes the token to a new file of mode 0600.
    ///
    /// - Throws: `key_file_exists` rather than overwrite one, `io_error`.
    package func save(to path: String) throws(Failure) { try KeyFile.create(path, text + "\n", mode: 0o600) }

    /// Whether this is the token; takes equally long wherever the two differ.
    package func matches(_ given: String) -> Bool {
        // Digests have one length, and nobody can choose where two of them differ.
        Digest.of(Array(given.utf8)) == Digest.of(Array(text.utf8))
    }
}
