import Failure
import Logging
import Wire

/// A blob on its way from a peer to the sink.
struct Receiving {
    enum Step: Sendable {
        case write(offset: UInt64, bytes: [UInt8])
        case commit
    }

    let identity: UInt64
    var digest: Digest
    var size: Int
    var window: Int
    /// What the peer may still send before it gets more credit; 0 until the sink is ready.
    var credit = 0
    var received = 0
    var isCommitting = false
    var feed: AsyncStream<Step>.Continuation
    var lastActivity = ContinuousClock.now
}

extension DataServer {
    func accept(_ open: PutOpen, _ key: TransferKey) {
        guard let sink else {
            return abandon(key, Failure("unexpected", "this peer holds blobs of its own and takes none"))
        }
        guard open.size <= UInt64(Limits.tensorBytes) else {
            return abandon(key, Failure("too_large", "a blob of \(open.size) bytes; at most \(Limits.tensorBytes)"))
        }
        let window = max(1, min(Int(open.size), Limits.defaultWindowBytes))
        guard reserve(window, for: key) else { return }
        let (steps, feed) = AsyncStream<Receiving.Step>.makeStream()
        let identity = newIdentity()
        receivings[key] = Receiving(
            identity: identity, digest: open.digest, size: Int(open.size), window: window, feed: feed)
        Task { await receive(open, key, identity, steps, into: sink) }
    }

    /// Follows one transfer from PUT_OPEN to its end; awaits the sink, so everything is looked up again afterwards.
    private func receive(
        _ open: PutOpen, _ key: TransferKey, _ identity: UInt64, _ steps: AsyncStream<Receiving.Step>,
        into sink: any BlobSink
    ) async {
        do throws(Failure) {
            guard let writer = try await sink.begin(open.digest, size: open.size) else {
                return conclude(key, identity, open.digest)
            }
            do throws(Failure) {
                grant(key, identity, receivings[key]?.window ?? 0)
                for await step in steps {
                    switch step {
                    case .write(let offset, let bytes):
                        try await writer.write(bytes, at: offset)
                        grant(key, identity, bytes.count)
                    case .commit:
                        try await writer.commit()
                        return conclude(key, identity, open.digest)
                    }
                }
                await writer.abort()
            } catch {
                await writer.abort()
                throw error
            }
        } catch {
            logger.warning("cannot store \(open.digest): \(error)")
            if receivings[key]?.identity == identity { abandon(key, error) }
        }
    }

    private func conclude(_ key: TransferKey, _ identity: UInt64, _ digest: Digest) {
        guard receivings[key]?.identity == identity else { return }
        reply(.stored(digest), to: key)
        drop(key)
    }

    private func grant(_ key: TransferKey, _ identity: UInt64, _ bytes: Int) {
        guard let receiving = receivings[key], receiving.identity == identity else { return }
        receivings[key]?.credit += bytes
        reply(.credit(Credit(digest: receiving.digest, bytes: UInt32(bytes))), to: key)
    }

    func take(_ chunk: Chunk, _ payload: UnsafeRawBufferPointer, _ key: TransferKey) {
        guard var receiving = receivings[key] else { return }
        guard chunk.digest == receiving.digest, chunk.offset == UInt64(receiving.received),
            Int(chunk.length) == payload.count, payload.count <= receiving.size - receiving.received,
            // Empty chunks need no credit: any number of them could wait for the disk.
            payload.count > 0, payload.count <= receiving.credit, !receiving.isCommitting
        else {
            return abandon(
                key,
                Failure(
                    "malformed",
                    "PUT_CHUNK of \(payload.count) bytes at \(chunk.offset), after \(receiving.received) of \(receiving.size) "
                        + "with credit \(receiving.credit)"
                ))
        }
        guard Checksum.crc32c(payload) == chunk.crc else {
            return abandon(
                key, Failure("bad_crc", "the chunk at \(chunk.offset) was damaged on its way", retry: .sameWorker))
        }
        receiving.received += payload.count
        receiving.credit -= payload.count
        receiving.lastActivity = .now
        counted.receivedBytes += UInt64(payload.count)
        receivings[key] = receiving
        receiving.feed.yield(.write(offset: chunk.offset, bytes: Array(payload)))
    }

    func complete(_ key: TransferKey) {
        guard let receiving = receivings[key], !receiving.isCommitting else { return }
        guard receiving.received == receiving.size else {
            return abandon(
                key, Failure("malformed", "PUT_DONE after \(receiving.received) of \(receiving.size) bytes"))
        }
        receivings[key]?.isCommitting = true
        receiving.feed.yield(.commit)
    }
}
