import Failure
import Hummingbird
import Wire

/// Files fetched lately, so that the many ranges of one playback cost one transfer from the store.
actor FileCache {
    private let service: any JobService
    private let budgetBytes: Int
    private var files: [Digest: (bytes: ByteBuffer, lastUse: UInt64)] = [:]
    private var pending: [Digest: Task<Result<ByteBuffer, Failure>, Never>] = [:]
    private var clock: UInt64 = 0

    init(service: any JobService, budgetBytes: Int = 256 << 20) {
        self.service = service
        self.budgetBytes = budgetBytes
    }

    /// The whole file; requests for one that is on its way share the transfer.
    func file(_ ref: TensorRef) async throws(Failure) -> ByteBuffer {
        clock += 1
        if let found = files[ref.digest] {
            files[ref.digest] = (found.bytes, clock)
            return found.bytes
        }
        if let task = pending[ref.digest] { return try await task.value.get() }
        let task = Task<Result<ByteBuffer, Failure>, Never> { [service] in
            do throws(Failure) {
                return .success(ByteBuffer(bytes: try await service.bytes(of: ref)))
            } catch {
                return .failure(error)
            }
        }
        pending[ref.digest] = task
        let result = await task.value
        pending[ref.digest] = nil
        let bytes = try result.get()
        keep(bytes, ref.digest)
        return bytes
    }

    private func keep(_ bytes: ByteBuffer, _ digest: Digest) {
        guard bytes.readableBytes <= budgetBytes else { return }
        files[digest] = (bytes, clock)
        var total = files.values.reduce(0) { $0 + $1.bytes.readableBytes }
        while total > budgetBytes, let oldest = files.min(by: { $0.value.lastUse < $1.value.lastUse }) {
            files[oldest.key] = nil
            total -= oldest.value.bytes.readableBytes
        }
    }
}
