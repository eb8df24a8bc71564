import CZeroMQ
package import Failure
import Logging
package import Wire

/// One transfer at a data server: the peer, and the sequence of its GET or PUT_OPEN, which every later message of the
/// transfer names in `inReplyTo`.
struct TransferKey: Hashable, Sendable {
    var peer: PeerID
    var sequence: UInt64
}

/// The holder's end of the data plane: a ROUTER that sends blobs in credited chunks, and takes them where it has a
/// sink.
///
/// GET opens with a window; the server never has more bytes outstanding than that, and every CREDIT lets it send as
/// many again. The windows of all transfers together stay within a budget; a peer beyond it is told BUSY.
package actor DataServer {
    package struct Statistics: Sendable, Hashable {
        package var sentBytes: UInt64 = 0
        package var receivedBytes: UInt64 = 0
        /// The most that one transfer ever had sent without being credited.
        package var peakOutstandingBytes = 0
        /// The most that all windows together ever were.
        package var peakReservedBytes = 0
        package var protocolErrors: UInt64 = 0
        package var turnedAway: UInt64 = 0
        /// GET and PUT_OPEN without a valid ticket.
        package var refusedTickets: UInt64 = 0
        /// Messages of peers whose key was revoked.
        package var revoked: UInt64 = 0
        package var activeTransfers = 0
        /// Blobs that went through shared memory, and their bytes.
        package var lentBlobs: UInt64 = 0
        package var lentBytes: UInt64 = 0
        /// Blobs that would have, had there been room.
        package var memoryFull: UInt64 = 0
        /// Places in shared memory that silent consumers have lost.
        package var expiredLeases: UInt64 = 0
        /// Consumers that memory is shared with.
        package var memoryChannels = 0
        /// Bytes of shared memory that may have pages.
        package var memoryBytes = 0
        /// Blobs that lie in shared memory at the moment.
        package var lentNow = 0
    }

    static let longestWindow = 64 << 20
    private static let busyMilliseconds: UInt32 = 100
    private static let transferLimit = 1024
    private static let batch = 64
    /// A full queue says nothing about when it will have room: look again soon.
    static let retryDelay = Duration.milliseconds(5)

    package nonisolated let loop: BusLoop
    package nonisolated var unownedExecutor: UnownedSerialExecutor { loop.asUnownedSerialExecutor() }

    let source: any BlobSource
    let sink: (any BlobSink)?
    let logger: Logger
    var sendings: [TransferKey: Sending] = [:]
    var receivings: [TransferKey: Receiving] = [:]
    var counted = Statistics()
    var lender: MemoryLender?
    /// The tasks led from here with the help of others, by their secrets, and who sits where.
    var parties: [[UInt8]: HostedParty] = [:]
    var seatedPeers: [PeerID: (secret: [UInt8], seat: Int)] = [:]
    var listenerRegistration: UInt64?
    var leaseTimer: UInt64?
    let desk = LendingDesk()
    private let security: BusSecurity?
    private let budgetBytes: Int
    private let idleLimit: Duration
    private let deafLimit: Duration
    private var reservedBytes = 0
    private var nextIdentity: UInt64 = 0
    private var outbox: Outbox
    private var socket: Socket?
    private var registration: UInt64?
    private var handshakes: SocketMonitor?
    private var handshakeRegistration: UInt64?
    private var sweepTimer: UInt64?
    private var isClosed = false

    /// - Parameters:
    ///   - sink: takes blobs that peers bring; nil refuses them.
    ///   - budgetBytes: what the windows of all transfers may add up to.
    ///   - security: puts TCP behind CURVE and wants a ticket for every transfer there.
    ///   - idleLimit: after so long without a sign of life from its peer a transfer is dropped.
    ///   - deafLimit: the same while other transfers need its share of the budget.
    package init(
        loop: BusLoop, session: SessionID, source: any BlobSource, sink: (any BlobSink)? = nil,
        security: BusSecurity? = nil, budgetBytes: Int = 1 << 30, idleLimit: Duration = .seconds(60),
        deafLimit: Duration = .seconds(5)
    ) {
        self.security = security
        self.loop = loop
        self.source = source
        self.sink = sink
        self.budgetBytes = budgetBytes
        self.idleLimit = idleLimit
        self.deafLimit = deafLimit
        outbox = Outbox(session: session)
        logger = Logger(label: "zoetrope.bus.data-server")
    }

    package var statistics: Statistics {
        var result = counted
        result.activeTransfers = sendings.count + receivings.count
        result.memoryChannels = lender?.channelCount ?? 0
        result.memoryBytes = lender?.usedBytes ?? 0
        result.lentNow = sendings.values.count { $0.lent != nil }
        return result
    }

    /// Listens on `endpoint`, beside the endpoints bound before; as `ControlServer.bind`.
    package func bind(_ endpoint: Endpoint, insecure: Bool) throws(Failure) -> Endpoint {
        try Binding.bind(openSocket(), endpoint, insecure: insecure, security)
    }

    /// Ends every transfer and closes the socket.
    package func close() {
        guard !isClosed else { return }
        isClosed = true
        if let registration { loop.reactor.unregister(registration) }
        if let handshakeRegistration { loop.reactor.unregister(handshakeRegistration) }
        if let sweepTimer { loop.reactor.cancelTimer(sweepTimer) }
        registration = nil
        handshakeRegistration = nil
        handshakes?.close()
        handshakes = nil
        for key in Array(sendings.keys) { drop(key) }
        for key in Array(receivings.keys) { drop(key) }
        closeLender()
        closeParties()
        socket?.close()
        socket = nil
    }

    private func openSocket() throws(Failure) -> Socket {
        if let socket { return socket }
        guard !isClosed else { throw Failure("bus_closed", "the data server was closed") }
        let opened = try Socket(loop.context, ZMQ_ROUTER)
        SocketProfile.data(opened)
        opened.set(ZMQ_ROUTER_MANDATORY, 1)
        try watchHandshakes(of: opened)
        registration = loop.reactor.register(
            opened, ready: { self.assumeIsolated { $0.drain() } }, close: { self.assumeIsolated { $0.close() } })
        socket = opened
        scheduleSweep()
        return opened
    }

    private func scheduleSweep() {
        sweepTimer = loop.reactor.schedule(after: idleLimit / 4) { self.assumeIsolated { $0.sweep() } }
    }

    private func sweep() {
        let limit = ContinuousClock.now - idleLimit
        for (key, sending) in sendings where sending.lastActivity < limit { drop(key) }
        for (key, receiving) in receivings where receiving.lastActivity < limit && !receiving.isCommitting { drop(key) }
        scheduleSweep()
    }

    // MARK: Messages

    /// Handshakes that break off never reach the handler of keys, only the socket's monitor.
    private func watchHandshakes(of socket: Socket) throws(Failure) {
        guard security != nil else { return }
        let monitor = try SocketMonitor(socket, loop.context, SocketMonitor.brokenHandshakes)
        handshakes = monitor
        handshakeRegistration = monitor.register(
            loop.reactor, ready: { self.assumeIsolated { $0.countHandshakes() } },
            close: { self.assumeIsolated { $0.close() } })
    }

    /// Brings the count of broken handshakes up to date.
    package func countHandshakes() {
        guard let handshakes else { return }
        security?.countBrokenHandshakes(handshakes.drain())
    }

    private func drain() {
        for _ in 0..<DataServer.batch {
            guard let socket, socket.receive({ handle($0) }) else { return }
        }
    }

    private func handle(_ parts: ReceivedParts) {
        let peer = PeerID(parts[0], key: parts.userKey)
        if let security, peer.key.map({ security.principal(of: $0) == nil }) ?? !parts.isFromSocketFile {
            counted.revoked += 1
            return
        }
        let envelope: Envelope
        do throws(Failure) {
            guard parts.count == 2 || parts.count == 3 else {
                throw Failure("extra_frames", "a data message of \(parts.count - 1) frames; it has one or two")
            }
            envelope = try EnvelopeCodec.decode(parts[1], from: .consumer)
            guard envelope.message.messageKind.carriesPayload == (parts.count == 3) else {
                throw Failure("extra_frames", "\(envelope.message.messageKind) with \(parts.count - 2) payload frames")
            }
        } catch {
            counted.protocolErrors += 1
            logger.warning("peer \(peer) sent no data message of CVB/1: \(error)")
            reply(.error(ErrorReply(error)), to: TransferKey(peer: peer, sequence: 0))
            return
        }
        let opened = TransferKey(peer: peer, sequence: envelope.inReplyTo)
        switch envelope.message {
        case .get(let get):
            let key = TransferKey(peer: peer, sequence: envelope.sequence)
            if isPermitted(.get, get.digest, get.ticket, key) { open(get, key) }
        case .credit(let credit): extend(opened, by: Int(credit.bytes))
        case .stop: drop(opened)
        case .putOpen(let open):
            let key = TransferKey(peer: peer, sequence: envelope.sequence)
            if isPermitted(.put, open.digest, open.ticket, key) { accept(open, key) }
        case .putChunk(let chunk): take(chunk, parts[2], opened)
        case .putDone: complete(opened)
        case .assistJoin, .assistPart, .assistEnd, .assistPulse:
            handleAssistance(envelope.message, parts, TransferKey(peer: peer, sequence: envelope.sequence))
        case .error(let error): logger.warning("peer \(peer) reports \(error.code): \(error.message)")
        default: break
        }
    }

    /// Peers behind CURVE present the broker's ticket; those on ipc run as our own user.
    private func isPermitted(
        _ direction: TicketTerms.Direction, _ digest: Digest, _ ticket: Ticket?, _ key: TransferKey
    ) -> Bool {
        guard let security, let consumer = key.peer.key else { return true }
        do throws(Failure) {
            try security.check(ticket, TicketTerms(direction: direction, digest: digest, consumer: consumer))
            return true
        } catch {
            counted.refusedTickets += 1
            logger.warning("peer \(consumer): \(error)")
            reply(.error(ErrorReply(error)), to: key)
            return false
        }
    }

    // MARK: What both directions need

    /// Sends an answer that belongs to a transfer.
    @discardableResult
    func reply(_ message: Message, to key: TransferKey, payload: Frame? = nil) -> SendOutcome {
        guard let socket else { return .unreachable }
        do throws(Failure) {
            let frame = try outbox.frame(message, inReplyTo: key.sequence).frame
            let frames: [Frame] = [.bytes(key.peer.bytes), .bytes(frame)]
            return socket.send(payload.map { frames + [$0] } ?? frames)
        } catch {
            logger.error("cannot send \(message.messageKind): \(error)")
            return .unreachable
        }
    }

    /// Tells the transfers apart that one peer opens under one sequence, one after the other: what was awaited for an
    /// earlier one must not touch the later.
    func newIdentity() -> UInt64 {
        nextIdentity += 1
        return nextIdentity
    }

    /// Takes `bytes` of the budget, or answers BUSY. A sequence that is in use ends its transfer with an error: two
    /// under one key would take their share of the budget twice and give it back once.
    func reserve(_ bytes: Int, for key: TransferKey) -> Bool {
        guard sendings[key] == nil, receivings[key] == nil else {
            abandon(key, Failure("malformed", "sequence \(key.sequence) has opened a transfer that is under way"))
            return false
        }
        if !hasRoom(for: bytes) { dropDeaf(for: bytes) }
        guard hasRoom(for: bytes) else {
            counted.turnedAway += 1
            reply(.busy(retryAfterMilliseconds: DataServer.busyMilliseconds), to: key)
            return false
        }
        reservedBytes += bytes
        counted.peakReservedBytes = max(counted.peakReservedBytes, reservedBytes)
        return true
    }

    private func hasRoom(for bytes: Int) -> Bool {
        sendings.count + receivings.count < DataServer.transferLimit
            && (reservedBytes == 0 || reservedBytes + bytes <= budgetBytes)
    }

    /// Peers that have stopped reading or sending must not keep the budget from those that would: the longest silent
    /// goes first, and no more of them than needed.
    private func dropDeaf(for bytes: Int) {
        let limit = ContinuousClock.now - deafLimit
        let silent =
            sendings.map { (key: $0.key, since: $0.value.lastActivity) }
            + receivings.filter { !$0.value.isCommitting }.map { (key: $0.key, since: $0.value.lastActivity) }
        for (key, since) in silent.sorted(by: { $0.since < $1.since }) where since < limit {
            if hasRoom(for: bytes) { return }
            drop(key)
        }
    }

    /// Forgets a transfer and returns its share of the budget.
    func drop(_ key: TransferKey) {
        if let sending = sendings.removeValue(forKey: key) {
            reservedBytes -= sending.window
            if let slot = sending.lent { lender?.release(slot) }
        }
        if let receiving = receivings.removeValue(forKey: key) {
            reservedBytes -= receiving.window
            receiving.feed.finish()
        }
    }

    /// Ends a transfer with an error that its peer hears of.
    func abandon(_ key: TransferKey, _ failure: Failure) {
        reply(.error(ErrorReply(failure)), to: key)
        drop(key)
    }
}
