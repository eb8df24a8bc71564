import Bus
import Failure
import Ledger
import Logging
import Wire
import Work

/// Owns the broker's state machine and gives it messages, time and a disk.
///
/// Whatever arrived while the last commit was on its way to the disk is handled as one batch with one commit (group
/// commit): under load the fsync is shared, without load nothing waits. Messages leave only after their batch is
/// committed.
actor BrokerCore {
    private enum Input {
        case message(PeerID, Envelope)
        case stored(Digest)
        case unreachable(SessionID)
        /// The key of this session was revoked: as if it had said GOODBYE.
        case revoked(SessionID)
        case tick
    }

    private struct Peer {
        var id: PeerID
        var heardAt: UInt64
    }

    /// Beyond this the receiver waits, and then `ControlServer` answers `overloaded`.
    private static let inboxLimit = 4096

    private var state: BrokerState
    private let store: any EntryStore
    private let server: ControlServer
    private let removeBlob: @Sendable (Digest) async -> Void
    private let logger: Logger
    /// What the process around counts, for statuses of the cluster.
    private let measures: @Sendable () async -> [BrokerCount: UInt64]
    private var access: AccessControl?
    private var peers: [SessionID: Peer] = [:]
    private var inbox: [Input] = []
    private var wake: CheckedContinuation<Void, Never>?
    private var isStopping = false
    private var nextProbeAt: UInt64 = 0
    /// Blobs that peers have brought since the present turn was decided.
    private var brought: Set<Digest> = []

    init(
        state: BrokerState, store: any EntryStore, server: ControlServer,
        removeBlob: @escaping @Sendable (Digest) async -> Void, access: AccessControl? = nil,
        measures: @escaping @Sendable () async -> [BrokerCount: UInt64] = { [:] }, logger: Logger
    ) {
        self.measures = measures
        self.access = access
        self.state = state
        self.store = store
        self.server = server
        self.removeBlob = removeBlob
        self.logger = logger
    }

    var isFull: Bool { inbox.count >= Self.inboxLimit }

    func receive(_ peer: PeerID, _ envelope: Envelope) async {
        if let objection = access?.objection(to: envelope, from: peer) {
            logger.warning("forbidden", metadata: ["session": "\(envelope.session)", "reason": "\(objection)"])
            let reply = ErrorReply(code: "forbidden", message: objection)
            await server.send(.error(reply), to: peer, inReplyTo: envelope.sequence)
            return
        }
        if case .ticketRequest(let request) = envelope.message {
            return await answer(request, envelope, peer)
        }
        enqueue(.message(peer, envelope))
    }

    /// Whoever is not in the table of keys any more is treated as if it had left; nobody listens to it either.
    /// - Parameter before: what each key was authorised for until now.
    func keysChanged(before: [PublicKey: Principal]) {
        for session in access?.takeRevoked(before: before) ?? [] {
            peers[session] = nil
            logger.notice("key revoked", metadata: ["session": "\(session)"])
            enqueue(.revoked(session))
        }
        access?.tellEverybody()
    }

    private func answer(_ request: TicketRequest, _ envelope: Envelope, _ peer: PeerID) async {
        let reply: Message
        do throws(Failure) {
            guard var access else { throw Failure("unexpected", "this broker has no keys and gives no tickets") }
            defer { self.access = access }
            reply = .ticket(
                try access.ticket(for: request, session: envelope.session, from: peer, records: state.records))
        } catch {
            logger.warning("\(error)", metadata: ["session": "\(envelope.session)"])
            reply = .error(ErrorReply(error))
        }
        await server.send(reply, to: peer, inReplyTo: envelope.sequence)
    }

    private func sendKeyRings() async {
        for (session, ring) in access?.rings(now: BootClock.now().milliseconds) ?? [] {
            // A worker that is gone introduces itself again when it comes back, and gets its ring then.
            guard let peer = peers[session] else { continue }
            await server.send(.keyRing(ring), to: peer.id)
        }
    }

    func tick() { enqueue(.tick) }

    /// A peer brings this blob, or has brought it. Told before the store looks whether it is there: a removal that was
    /// decided earlier spares it from now on.
    func expect(_ digest: Digest) {
        brought.insert(digest)
        enqueue(.stored(digest))
    }

    /// Lets `run` return once everything received so far is handled.
    func stop() {
        isStopping = true
        wake?.resume()
        wake = nil
    }

    private func enqueue(_ input: Input) {
        inbox.append(input)
        wake?.resume()
        wake = nil
    }

    /// Handles batch after batch until `stop`.
    /// - Throws: what makes a broker on this ledger impossible (`ledger_corrupt`, `ledger_superseded`).
    func run() async throws(Failure) {
        while true {
            if inbox.isEmpty {
                if isStopping { return }
                await withCheckedContinuation { wake = $0 }
                continue
            }
            let batch = inbox
            inbox = []
            try await handle(batch)
        }
    }

    // MARK: One batch

    private func handle(_ batch: [Input]) async throws(Failure) {
        let now = BootClock.now()
        brought = []
        var turn = BrokerTurn(batch.map { event(of: $0, now: now) })
        turn.decide(with: &state, now: now)
        while let action = turn.next() {
            switch action {
            case .commit(let entries):
                do throws(Failure) {
                    try await store.commit(entries)
                    for entry in entries { log(entry) }
                } catch {
                    // The same messages once more: a read-only broker answers them without writing.
                    turn.refused(error, records: try recordsAfter(error), state: &state, now: BootClock.now())
                }
            case .send(let sends): for outgoing in sends { await deliver(outgoing) }
            case .remove(let digests):
                for digest in digests where !brought.contains(digest) { await removeBlob(digest) }
            }
        }
        await sendKeyRings()
        forgetSilentPeers(now.milliseconds)
        if store.needsCompaction, state.readOnlyReason == nil { await compact() }
        if state.readOnlyReason != nil { try await probe() }
    }

    private func event(of input: Input, now: Instant) -> BrokerEvent {
        switch input {
        case .tick: return .tick
        case .stored(let digest): return .stored(digest)
        case .unreachable(let session): return .unreachable(session)
        case .revoked(let session):
            // Once more: what it had sent before the revocation has just been handled.
            peers[session] = nil
            return .received(Envelope(session: session, sequence: 0, brokerEpoch: store.epoch, message: .goodbye))
        case .message(let peer, let envelope):
            peers[envelope.session] = Peer(id: peer, heardAt: now.milliseconds)
            return .received(envelope)
        }
    }

    private func deliver(_ outgoing: Outgoing) async {
        let message: Message
        switch outgoing.message {
        case .event(let status): message = .event(status.fittingOneFrame())
        case .status(let page): message = .status(page.fittingOneFrame())
        case .cluster(let status): message = .cluster(await counted(status))
        default: message = outgoing.message
        }
        if let peer = peers[outgoing.session],
            await server.send(message, to: peer.id, inReplyTo: outgoing.inReplyTo)
        {
            return
        }
        logger.debug("\(message.messageKind) did not reach session \(outgoing.session)")
        enqueue(.unreachable(outgoing.session))
    }

    /// The cluster's status with what the broker has counted.
    private func counted(_ status: ClusterStatus) async -> ClusterStatus {
        var counts = await measures()
        if let counters = access?.counters {
            counts[.refusedSession] = counters.refusedSessions
            counts[.refusedTicketRequest] = counters.refusedTickets
            counts[.sessionsRevoked] = counters.revokedSessions
        }
        var status = status
        status.counts = BrokerCount.allCases.compactMap { name in
            counts[name].map { ClusterStatus.Count(name: name.rawValue, value: $0) }
        }
        return status
    }

    /// Clients come and go; whoever is still there is heard again and comes back.
    private func forgetSilentPeers(_ now: UInt64) {
        guard peers.count > 4096 else { return }
        peers = peers.filter { now - min(now, $0.value.heardAt) < 600_000 }
        access?.forgetAll(but: Set(peers.keys))
    }

    // MARK: The ledger's moods

    /// What is on disk after a commit that failed, where a broker can live with the reason.
    private func recordsAfter(_ failure: Failure) throws(Failure) -> Records {
        guard failure.code == "ledger_full" || failure.code == "ledger_unwritable" else {
            logger.critical("\(failure)")
            throw failure
        }
        logger.error("the broker is read-only: \(failure)")
        return try store.load()
    }

    private func compact() async {
        do throws(Failure) {
            try await store.compact(state.records)
            logger.debug("compacted the ledger: \(state.records.order.count) jobs")
        } catch {
            logger.warning("cannot compact the ledger: \(error)")
        }
    }

    /// Goes back to work as soon as the disk takes a write again.
    private func probe() async throws(Failure) {
        let now = BootClock.now()
        guard now.milliseconds >= nextProbeAt else { return }
        nextProbeAt = now.milliseconds + 1000
        do throws(Failure) {
            try await store.probe()
        } catch {
            return
        }
        state.recover(records: try store.load(), readOnly: nil, now: BootClock.now())
        logger.notice("the ledger can be written again")
    }

    // MARK: Log

    private func log(_ entry: LedgerEntry) {
        switch entry {
        case .jobAccepted(let acceptance):
            logger.info("job accepted", metadata: ["job": "\(acceptance.job)", "tasks": "\(acceptance.tasks.count)"])
        case .leaseGranted(let grant):
            logger.info(
                "task leased",
                metadata: [
                    "task": "\(grant.lease.task)", "fence": "\(grant.lease.fence)", "worker": "\(grant.worker)",
                ])
        case .leaseEnded(let end):
            logger.log(
                level: end.reason.givesAttemptBack ? .info : .warning, "lease ended",
                metadata: [
                    "task": "\(end.lease.task)", "fence": "\(end.lease.fence)", "reason": "\(end.reason.rawValue)",
                    "detail": "\(end.message)",
                ])
        case .taskCompleted(let completion):
            logger.info(
                "task done",
                metadata: ["task": "\(completion.lease.task)", "ms": "\(completion.elapsedMilliseconds)"])
        case .outputsLost(let loss):
            logger.warning(
                "outputs lost, they are made again",
                metadata: ["job": "\(loss.job)", "tasks": "\(loss.producers.joined(separator: ","))"])
        case .jobEnded(let end):
            logger.warning(
                "job ended",
                metadata: [
                    "job": "\(end.job)", "state": "\(end.state)", "code": "\(end.code)", "detail": "\(end.message)",
                ])
        case .checkpointCommitted, .jobForgotten, .deadlineMoved:
            logger.debug("\(entry.kind)", metadata: ["job": "\(entry.job)"])
        }
    }
}
