import Failure
import Tensor
import Wire

/// A blob on its way to a peer.
struct Sending {
    let identity: UInt64
    var digest: Digest
    /// The next byte to send, and the end, within the blob.
    var offset: Int
    var end: Int
    /// What the peer allowed to be outstanding, and how much of it is left.
    var window: Int
    var credit: Int
    var chunkLimit: Int
    /// nil while the source looks for the blob.
    var blob: PinnedTensor?
    /// Where it lies in shared memory instead.
    var lent: LentSlot?
    var hasSent = false
    var isParked = false
    var lastActivity = ContinuousClock.now

    var outstanding: Int { window - credit }
}

extension DataServer {
    func open(_ get: Get, _ key: TransferKey) {
        let (end, overflow) = get.offset.addingReportingOverflow(get.length)
        guard get.window > 0, !overflow, end <= UInt64(Limits.tensorBytes) else {
            return abandon(
                key, Failure("malformed", "GET of \(get.length) bytes from \(get.offset) with window \(get.window)"))
        }
        if let wish = get.memory, invite(wish, get, key) { return }
        let window = min(Int(get.window), DataServer.longestWindow, max(1, Int(get.length)))
        guard reserve(window, for: key) else { return }
        let identity = newIdentity()
        sendings[key] = Sending(
            identity: identity, digest: get.digest, offset: Int(get.offset), end: Int(end), window: window,
            credit: window, chunkLimit: min(window, Limits.chunkBytes))
        Task {
            let blob = await source.blob(get.digest)
            begin(key, identity, blob, get.memory)
        }
    }

    private func begin(_ key: TransferKey, _ identity: UInt64, _ blob: Tensor?, _ wish: MemoryWish?) {
        guard let sending = sendings[key], sending.identity == identity else { return }
        guard let blob else {
            reply(.notHere(sending.digest), to: key)
            return drop(key)
        }
        guard sending.end <= blob.byteCount else {
            return abandon(
                key, Failure("malformed", "GET up to byte \(sending.end) of a blob of \(blob.byteCount) bytes"))
        }
        let pinned = PinnedTensor(blob)
        let isWhole = sending.offset == 0 && sending.end == blob.byteCount
        if isWhole, let wish, lend(pinned, wish, key, identity) { return }
        serve(pinned, key)
    }

    /// Begins to send chunks.
    func serve(_ blob: PinnedTensor, _ key: TransferKey) {
        sendings[key]?.blob = blob
        pump(key)
    }

    func extend(_ key: TransferKey, by bytes: Int) {
        guard var sending = sendings[key] else { return }
        sending.credit = min(sending.window, sending.credit + bytes)
        sending.lastActivity = .now
        sendings[key] = sending
        if sending.blob != nil, sending.hasSent, sending.offset == sending.end, sending.outstanding == 0 {
            return drop(key)
        }
        pump(key)
    }

    /// Sends chunks while there is credit for them.
    private func pump(_ key: TransferKey) {
        while let sending = sendings[key], let blob = sending.blob, !sending.isParked {
            let length = min(sending.chunkLimit, sending.end - sending.offset)
            // An empty blob is one empty chunk: the peer must learn that it is here.
            guard length > 0 || !sending.hasSent, length <= sending.credit else { return }
            let chunk = Chunk(
                digest: sending.digest, offset: UInt64(sending.offset), length: UInt32(length),
                crc: Checksum.crc32c(blob.slice(sending.offset, length)))
            let payload = Frame.pinned(blob, offset: sending.offset, length: length)
            switch reply(.chunk(chunk), to: key, payload: payload) {
            case .sent: sent(length, key)
            case .full: return park(key)
            case .unreachable: return drop(key)
            }
        }
    }

    private func sent(_ length: Int, _ key: TransferKey) {
        guard var sending = sendings[key] else { return }
        sending.offset += length
        sending.credit -= length
        sending.hasSent = true
        counted.sentBytes += UInt64(length)
        counted.peakOutstandingBytes = max(counted.peakOutstandingBytes, sending.outstanding)
        sendings[key] = sending
        if length == 0 { drop(key) }
    }

    private func park(_ key: TransferKey) {
        sendings[key]?.isParked = true
        loop.reactor.schedule(after: DataServer.retryDelay) {
            self.assumeIsolated {
                $0.sendings[key]?.isParked = false
                $0.pump(key)
            }
        }
    }
}
