import Dispatch
import Synchronization
import Wire

/// Runs an actor's jobs on a dispatch queue, so that file writes and hashing block neither the bus thread nor Swift's
/// few cooperative threads. All queues share dispatch's pool, which has no more threads than processors.
final class WorkQueue: SerialExecutor {
    private let queue: DispatchQueue

    init(label: String) { queue = DispatchQueue(label: label, target: .global()) }

    func enqueue(_ job: consuming ExecutorJob) {
        let job = UnownedJob(job)
        queue.async { job.runSynchronously(on: self.asUnownedSerialExecutor()) }
    }
}

/// SHA-256 of a blob while it is still arriving: pieces are hashed in the order they are appended.
actor HashPipeline {
    private nonisolated let work: WorkQueue
    nonisolated var unownedExecutor: UnownedSerialExecutor { work.asUnownedSerialExecutor() }

    private var hasher = DigestHasher()
    private nonisolated let feed: AsyncStream<Range<Int>>.Continuation
    private let ranges: AsyncStream<Range<Int>>
    private let buffer: ReceiveBuffer

    init(_ buffer: ReceiveBuffer) {
        self.buffer = buffer
        work = WorkQueue(label: "zoetrope.hash")
        (ranges, feed) = AsyncStream.makeStream()
    }

    /// Bytes of the buffer that are complete and will not change.
    nonisolated func append(_ range: Range<Int>) { feed.yield(range) }

    nonisolated func finish() { feed.finish() }

    /// Hashes until `finish`.
    func digest() async -> Digest {
        for await range in ranges { hasher.update(buffer.slice(range)) }
        return hasher.finalize()
    }
}
