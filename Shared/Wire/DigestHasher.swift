import Crypto

/// SHA-256 of bytes that arrive piece by piece (FIPS 180-4).
package struct DigestHasher: Sendable {
    private var hash = SHA256()

    package init() {}

    package mutating func update(_ bytes: UnsafeRawBufferPointer) { hash.update(bufferPointer: bytes) }

    package consuming func finalize() -> Digest { Digest(sha256: Array(hash.finalize())) }
}

extension Digest {
    /// The SHA-256 of `bytes`.
    package static func of(_ bytes: UnsafeRawBufferPointer) -> Digest {
        var hasher = DigestHasher()
        hasher.update(bytes)
        return hasher.finalize()
    }

    /// The SHA-256 of `bytes`.
    package static func of(_ bytes: [UInt8]) -> Digest { bytes.withUnsafeBytes { of($0) } }
}
