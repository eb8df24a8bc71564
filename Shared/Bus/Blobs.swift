package import Failure
package import Tensor
package import Wire

/// Where a data server finds the blobs that peers ask for.
package protocol BlobSource: Sendable {
    /// The blob as a tensor over exactly its bytes, or nil when it is not here. Called off the bus thread.
    func blob(_ digest: Digest) async -> Tensor?
}

/// Where a data server puts the blobs that peers bring.
package protocol BlobSink: Sendable {
    /// Prepares to receive a blob of `size` bytes.
    ///
    /// - Returns: nil when the blob is here already.
    /// - Throws: `store_full`, `io_error`.
    func begin(_ digest: Digest, size: UInt64) async throws(Failure) -> (any BlobWriter)?
}

/// Takes one blob, piece by piece in order; then `commit` or `abort`, once.
package protocol BlobWriter: Sendable {
    /// - Throws: `io_error`.
    func write(_ bytes: [UInt8], at offset: UInt64) async throws(Failure)
    /// Verifies the SHA-256 and makes the blob durable; when it returns, a power cut does not lose it.
    ///
    /// - Throws: `digest_mismatch`, `io_error`.
    func commit() async throws(Failure)
    func abort() async
}
