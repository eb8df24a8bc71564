import Failure
import Logging
import Wire

/// A blob on its way from a peer to the sink.
struct Receiving {
    enum Step: Sendable {
        case write(offset: UInt64, bytes: [UInt8])
        case commit
    }

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
        receivings[key] = Receiving(digest: open.digest, size: Int(open.size), window: window, feed: feed)
        Task { await receive(open, key, steps, into: sink) }
    }

    /// Follows one transfer from PUT_OPEN to its end; awaits the sink, so everything is looked up again afterwards.
    private func receive(
        _ open: PutOpen, _ key: TransferKey, _ steps: AsyncStream<Receiving.Step>, into sink: any BlobSink
    ) async {
        do throws(Failure) {
            guard let writer = try await sink.begin(open.digest, size: open.size) else {
                reply(.stored(open.digest), to: key)
                return drop(key)
            }
            do throws(Failure) {
                grant(key, receivings[key]?.window ?? 0)
                for await step in steps {
                    switch step {
                    case .write(let offset, let bytes):
                        try await writer.write(bytes, at: offset)
                        grant(key, bytes.count)
                    case .commit:
                        try await writer.commit()
                        reply(.stored(open.digest), to: key)
                        return drop(key)
                    }
                }
                await writer.abort()
            } catch {
                await writer.abort()
                throw error
            }
        } catch {
            logger.warning("cannot store \(open.digest): \(error)")
            abandon(key, error)
        }
    }

    private func grant(_ key: TransferKey, _ bytes: Int) {
        guard let receiving = receivings[key] else { return }
        receivings[key]?.credit += bytes
        reply(.credit(Credit(digest: receiving.digest, bytes: UInt32(bytes))), to: key)
    }

    func take(_ chunk: Chunk, _ payload: UnsafeRawBufferPointer, _ key: TransferKey) {
        guard var receiving = receivings[key] else { return }
        guard chunk.digest == receiving.digest, chunk.offset == UInt64(receiving.received),
            Int(chunk.length) == payload.count, payload.count <= receiving.size - receiving.received,
            payload.count <= receiving.credit, !receiving.isCommitting
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
