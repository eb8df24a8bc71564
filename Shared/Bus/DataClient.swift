package import Failure
import Logging
import Synchronization
package import Runtime
package import Tensor
package import Wire

/// The consumer's end of the data plane: fetches blobs from whoever holds them and brings blobs to stores.
///
/// One connection a holder, made when first needed and dropped after a minute without use; any number of transfers
/// share it. A transfer fails over to the blob's next location when a holder is gone, silent or does not have it.
package actor DataClient {
    static let batch = 64
    /// A connection that is not up after so long counts as unreachable.
    static let connectPatience = Duration.seconds(3)
    static let reconnectDelay = Duration.milliseconds(500)
    private static let storeRetryDelay = Duration.milliseconds(250)

    package nonisolated let loop: BusLoop
    package nonisolated var unownedExecutor: UnownedSerialExecutor { loop.asUnownedSerialExecutor() }
    package nonisolated let runDirectory: RunDirectory

    let access: DataAccess?
    let sharesMemory: Bool
    let windowBytes: Int
    let linkIdleTime: Duration
    let logger: Logger
    var outbox: Outbox
    var links: [Holder: DataLink] = [:]
    var transfers: [UInt64: Transfer] = [:]
    /// Transfer by the sequence of its GET or PUT_OPEN.
    var bySequence: [UInt64: UInt64] = [:]
    var sweepTimer: UInt64?
    var isClosed = false
    var accesses: [Holder: SharedAccess] = [:]
    private nonisolated let counters = Mutex(FetchCounters())
    private var nextIdentity: UInt64 = 0

    /// - Parameters:
    ///   - access: our key and the way to tickets; nil reaches no holder behind CURVE.
    ///   - sharesMemory: whether blobs may come through memory that holders on this host share.
    ///   - windowBytes: what a holder may have under way to us per transfer.
    ///   - linkIdleTime: how long an unused connection is kept.
    package init(
        loop: BusLoop, session: SessionID, runDirectory: RunDirectory, access: DataAccess? = nil,
        sharesMemory: Bool = true, windowBytes: Int = Limits.defaultWindowBytes,
        linkIdleTime: Duration = .seconds(60)
    ) {
        self.access = access
        self.sharesMemory = sharesMemory
        self.loop = loop
        self.runDirectory = runDirectory
        self.windowBytes = windowBytes
        self.linkIdleTime = linkIdleTime
        outbox = Outbox(session: session)
        logger = Logger(label: "zoetrope.bus.data-client")
    }

    /// The SHA-256 of the tensor's bytes. Takes a second a gigabyte: not for the bus thread.
    package static func digest(of tensor: Tensor) -> Digest { tensor.withUnsafeBytes { Digest.of($0) } }

    /// What was fetched and found to be right since the start.
    package nonisolated var fetched: FetchCounters { counters.withLock { $0 } }

    /// Connections open at the moment.
    package var openLinks: Int { links.count }

    /// Fetches the blob and verifies every chunk's CRC-32C and the whole's SHA-256.
    ///
    /// Locations are tried in order, sockets of our own host first; one more round follows when a connection broke or
    /// bytes arrived damaged.
    /// - Parameters:
    ///   - timeout: how long a holder may be silent before the next one is tried.
    ///   - lease: of the task that needs it, for the ticket.
    /// - Throws: `input_missing` (`.otherWorker`) when no location serves it, `digest_mismatch` when the bytes a holder
    ///   has are others, `out_of_memory`, `cancelled`, `bus_closed`.
    package func fetch(
        _ ref: TensorRef, timeout: Duration, lease: Lease? = nil
    ) async throws(Failure) -> Tensor {
        guard ref.byteCount <= Limits.tensorBytes else {
            throw Failure("too_large", "a tensor of \(ref.byteCount) bytes; at most \(Limits.tensorBytes)")
        }
        var reasons: [String] = []
        var damage: Failure?
        for _ in 0..<2 {
            var mayRecover = false
            for endpoint in endpoints(of: ref.locations) {
                switch await fetch(ref, from: endpoint, timeout, lease) {
                case .fetched(let buffer, let digest, let way) where digest == ref.digest:
                    count(way, ref.byteCount)
                    return buffer.tensor(shape: ref.shape, dtype: ref.dtype)
                case .fetched(_, let digest, _):
                    damage = Failure(
                        "digest_mismatch", "\(endpoint) sent bytes of digest \(digest) for \(ref.digest)",
                        field: "digest", retry: .otherWorker)
                case .notHere: reasons.append("\(endpoint) does not have it")
                case .lost(let reason):
                    reasons.append("\(endpoint) \(reason)")
                    mayRecover = true
                case .failed(let failure):
                    if failure.code == "bus_closed" || failure.code == "out_of_memory" { throw failure }
                    if failure.code == "bad_crc" { damage = failure }
                    mayRecover = mayRecover || failure.retry == .sameWorker || failure.code == "bad_crc"
                    reasons.append("\(endpoint): \(failure.code): \(failure.message)")
                case .unshared(let reason): reasons.append("\(endpoint): \(reason)")
                case .cancelled: throw Failure("cancelled", "fetching \(ref.digest) was cancelled")
                case .stored: break
                }
            }
            if !mayRecover { break }
        }
        if let damage { throw damage }
        let detail =
            reasons.isEmpty
            ? "none of its \(ref.locations.count) locations can be reached from here" : reasons.joined(separator: "; ")
        throw Failure(
            "input_missing", "no holder serves the blob \(ref.digest): \(detail)", field: "digest", retry: .otherWorker)
    }

    /// Brings the tensor's bytes to a store and waits until they are durable there.
    ///
    /// - Parameters:
    ///   - locations: addresses of one store, tried in order; the reference names all of them.
    ///   - timeout: how long to go on without progress, through restarts of the store.
    ///   - lease: of the task that made it, for the ticket.
    /// - Throws: `store_unreachable` (`.sameWorker`), `store_full`, `digest_mismatch`, `cancelled`, `bus_closed`.
    package func store(
        _ tensor: Tensor, at locations: [Location], timeout: Duration, lease: Lease? = nil
    ) async throws(Failure) -> TensorRef {
        let pinned = PinnedTensor(tensor)
        let digest = await Hashing(label: "zoetrope.hash").digest(of: pinned)
        let endpoints = endpoints(of: locations)
        guard !endpoints.isEmpty else {
            throw Failure("store_unreachable", "none of \(locations.count) store locations can be reached from here")
        }
        let start = ContinuousClock.now
        while true {
            var last = ""
            for endpoint in endpoints {
                switch await store(pinned, digest, at: endpoint, timeout, lease) {
                case .stored:
                    return TensorRef(digest: digest, dtype: tensor.dtype, shape: tensor.shape, locations: locations)
                case .lost(let reason): last = "\(endpoint) \(reason)"
                case .failed(let failure) where failure.retry == .never || failure.code == "store_full": throw failure
                case .failed(let failure): last = "\(endpoint): \(failure)"
                case .cancelled: throw Failure("cancelled", "storing \(digest) was cancelled")
                case .fetched, .notHere, .unshared: last = "\(endpoint) gave an answer to another question"
                }
            }
            guard ContinuousClock.now - start < timeout else {
                throw Failure("store_unreachable", "cannot store \(digest): \(last)", retry: .sameWorker)
            }
            await pause(DataClient.storeRetryDelay)
        }
    }

    /// Ends every transfer with `bus_closed` and closes every connection.
    package func close() {
        isClosed = true
        for identity in Array(transfers.keys) { finish(identity, .failed(DataClient.closed)) }
        for endpoint in Array(links.keys) { removeLink(endpoint) }
        for endpoint in Array(accesses.keys) { closeAccess(endpoint) }
        if let sweepTimer { loop.reactor.cancelTimer(sweepTimer) }
        sweepTimer = nil
    }

    static let closed = Failure("bus_closed", "the data client was closed")

    /// What can be reached from here, sockets of our own host first.
    func endpoints(of locations: [Location]) -> [Holder] {
        let reachable = locations.compactMap { $0.holder(in: runDirectory, isKeyed: access != nil) }
        return reachable.filter(\.isSocketFile) + reachable.filter { !$0.isSocketFile }
    }

    private func pause(_ duration: Duration) async {
        await withCheckedContinuation { continuation in
            loop.reactor.schedule(after: duration) { continuation.resume() }
        }
    }

    // MARK: One attempt

    /// Through shared memory where that is possible, and over the socket where it is not, or did not work.
    private func fetch(
        _ ref: TensorRef, from endpoint: Holder, _ timeout: Duration, _ lease: Lease?
    ) async -> TransferOutcome {
        let outcome = await fetch(ref, from: endpoint, timeout, lease, mayShare: true)
        switch outcome {
        case .unshared(let reason): logger.debug("\(ref.digest) of \(endpoint) over the socket: \(reason)")
        case .fetched(_, let digest, .memory) where digest != ref.digest:
            logger.warning("\(endpoint) shared bytes of digest \(digest) for \(ref.digest)")
        default: return outcome
        }
        return await fetch(ref, from: endpoint, timeout, lease, mayShare: false)
    }

    private func fetch(
        _ ref: TensorRef, from endpoint: Holder, _ timeout: Duration, _ lease: Lease?, mayShare: Bool
    ) async -> TransferOutcome {
        let buffer: ReceiveBuffer
        let ticket: Ticket?
        do throws(Failure) {
            ticket = try await self.ticket(.get, ref.digest, endpoint, lease)
            buffer = try ReceiveBuffer(count: ref.byteCount)
        } catch {
            return .failed(error)
        }
        let hash = HashPipeline(buffer)
        // The consumer of ranges hashes on its own thread while chunks arrive.
        async let digest = hash.digest()
        let outcome = await attempt(
            ref.digest, ref.byteCount, .fetch(buffer: buffer, hash: hash, received: 0), endpoint, timeout, ticket,
            mayShare: mayShare)
        hash.finish()
        let found = await digest
        guard case .fetched(let received, _, let way) = outcome else { return outcome }
        return .fetched(received, found, way)
    }

    private func count(_ way: TransferOutcome.Way, _ bytes: Int) {
        counters.withLock { counters in
            switch way {
            case .memory:
                counters.memoryBlobs += 1
                counters.memoryBytes += UInt64(bytes)
            case .socket(let isFallback):
                counters.socketBlobs += 1
                counters.socketBytes += UInt64(bytes)
                if isFallback { counters.fallbacks += 1 }
            }
        }
    }

    private func store(
        _ pinned: PinnedTensor, _ digest: Digest, at endpoint: Holder, _ timeout: Duration, _ lease: Lease?
    ) async -> TransferOutcome {
        let ticket: Ticket?
        do throws(Failure) {
            ticket = try await self.ticket(.put, digest, endpoint, lease)
        } catch {
            return .failed(error)
        }
        let work = Transfer.Work.store(pinned, offset: 0, credit: 0, chunkLimit: 0, isDone: false)
        return await attempt(digest, pinned.count, work, endpoint, timeout, ticket)
    }

    /// What a holder behind CURVE wants to see; the broker gives it for a minute.
    private func ticket(
        _ direction: TicketTerms.Direction, _ digest: Digest, _ holder: Holder, _ lease: Lease?
    ) async throws(Failure) -> Ticket? {
        guard let access, let key = holder.key else { return nil }
        let terms = TicketTerms(direction: direction, digest: digest, consumer: access.identity.publicKey)
        return try await access.ticket(TicketRequest(terms: terms, holder: key, lease: lease))
    }

    private func attempt(
        _ digest: Digest, _ length: Int, _ work: Transfer.Work, _ endpoint: Holder, _ timeout: Duration,
        _ ticket: Ticket?, mayShare: Bool? = nil
    ) async -> TransferOutcome {
        nextIdentity += 1
        let identity = nextIdentity
        return await withTaskCancellationHandler {
            await withCheckedContinuation { continuation in
                var transfer = Transfer(
                    endpoint: endpoint, ticket: ticket, digest: digest, length: length, work: work,
                    continuation: continuation,
                    timeout: timeout, deadline: .now + timeout * 10)
                transfer.mayShare = mayShare == true
                // Only what was to come through shared memory is fetched a second time without.
                transfer.triedMemory = mayShare == false
                begin(identity, transfer)
            }
        } onCancel: {
            loop.post { self.assumeIsolated { $0.finish(identity, .cancelled) } }
        }
    }
}

/// Hashes whole tensors on a thread of its own.
private actor Hashing {
    private nonisolated let work: WorkQueue
    nonisolated var unownedExecutor: UnownedSerialExecutor { work.asUnownedSerialExecutor() }

    init(label: String) { work = WorkQueue(label: label) }

    func digest(of tensor: PinnedTensor) -> Digest { Digest.of(tensor.slice(0, tensor.count)) }
}
