import Bus
import Failure
import Synchronization
import Wire

/// The blob store as peers see it: tells the broker of every blob that somebody brings, before it looks whether the blob
/// is there and after it was written, so that none is removed while a reference to it is under way.
final class AnnouncedStore: BlobSink {
    private let store: BlobStore
    private let announce = Mutex<(@Sendable (Digest) async -> Void)?>(nil)

    init(_ store: BlobStore) { self.store = store }

    /// Whom to tell; nobody before.
    func announce(to listener: @escaping @Sendable (Digest) async -> Void) { announce.withLock { $0 = listener } }

    fileprivate func tell(_ digest: Digest) async { await announce.withLock { $0 }?(digest) }

    func begin(_ digest: Digest, size: UInt64) async throws(Failure) -> (any BlobWriter)? {
        await tell(digest)
        guard let writer = try await store.begin(digest, size: size) else { return nil }
        return AnnouncedWriter(store: self, digest: digest, writer: writer)
    }
}

private struct AnnouncedWriter: BlobWriter {
    let store: AnnouncedStore
    let digest: Digest
    let writer: any BlobWriter

    func write(_ bytes: [UInt8], at offset: UInt64) async throws(Failure) { try await writer.write(bytes, at: offset) }

    func commit() async throws(Failure) {
        try await writer.commit()
        await store.tell(digest)
    }

    func abort() async { await writer.abort() }
}
