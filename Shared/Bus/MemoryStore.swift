import Synchronization
package import Tensor
package import Wire

/// Blobs that live in this process only: decoded frames, which are made again rather than kept on disk.
package final class MemoryStore: BlobSource {
    private struct State {
        var tensors: [Digest: Tensor] = [:]
        /// Oldest first.
        var order: [Digest] = []
        var bytes = 0
        /// Those of `bytes` that do not lie in files.
        var bytesInMemory = 0
    }

    private let budgetBytes: Int
    private let state = Mutex(State())

    /// - Parameter budgetBytes: what all blobs together may take, those in files (`Tensor.isInFile`) left out; the newest
    ///   one stays even where it alone exceeds it.
    package init(budgetBytes: Int) { self.budgetBytes = budgetBytes }

    /// Bytes of all blobs held.
    package var totalBytes: Int { state.withLock { $0.bytes } }

    /// Keeps `tensor` and evicts the oldest blobs in memory beyond the budget. Hashes the bytes: not for the bus thread.
    @discardableResult
    package func insert(_ tensor: Tensor) -> Digest {
        let digest = DataClient.digest(of: tensor)
        state.withLock { state in
            MemoryStore.remove(digest, from: &state)
            state.tensors[digest] = tensor
            state.order.append(digest)
            state.bytes += tensor.byteCount
            if !tensor.isInFile { state.bytesInMemory += tensor.byteCount }
            while state.bytesInMemory > budgetBytes,
                let oldest = state.order.first(where: { $0 != digest && state.tensors[$0]?.isInFile == false })
            {
                MemoryStore.remove(oldest, from: &state)
            }
        }
        // Hashing has read them.
        tensor.dropMappedPages()
        return digest
    }

    /// Forgets the blob; transfers under way keep its bytes until they end.
    package func release(_ digest: Digest) {
        state.withLock { MemoryStore.remove(digest, from: &$0) }
    }

    package func blob(_ digest: Digest) async -> Tensor? { state.withLock { $0.tensors[digest] } }

    private static func remove(_ digest: Digest, from state: inout State) {
        guard let tensor = state.tensors.removeValue(forKey: digest) else { return }
        state.order.removeAll { $0 == digest }
        state.bytes -= tensor.byteCount
        if !tensor.isInFile { state.bytesInMemory -= tensor.byteCount }
    }
}
