import CZeroMQ
package import Failure
import Logging
package import Wire

/// The broker's end of the control plane: one ROUTER that every worker, gateway and command line connects to.
///
/// Keep a reference and call `close()`, or shut the loop down: a bound server lives until then.
package actor ControlServer {
    /// What was seen of broken or lost messages since the start.
    package struct Counters: Sendable, Hashable {
        package var received: UInt64 = 0
        package var sent: UInt64 = 0
        /// Frames that were no message of CVB/1, or one that the sender may not send.
        package var protocolErrors: UInt64 = 0
        /// Messages turned away because `incoming` was full.
        package var overflowed: UInt64 = 0
        /// Messages that could not be sent: peer gone or its queue full.
        package var unsent: UInt64 = 0
        /// Messages that the sender's role may not send.
        package var forbidden: UInt64 = 0
        /// Messages of peers whose key was revoked: nobody answers them.
        package var revoked: UInt64 = 0
    }

    /// After so many protocol errors a connection is not listened to any more.
    static let strikeLimit = 3
    private static let incomingCapacity = 4096
    private static let batch = 64

    package nonisolated let loop: BusLoop
    package nonisolated var unownedExecutor: UnownedSerialExecutor { loop.asUnownedSerialExecutor() }

    /// Every well-formed message, in the order each peer sent them. Bounded: what does not fit is answered with the
    /// error `overloaded`. Ends with `close()`.
    package nonisolated let incoming: AsyncStream<(PeerID, Envelope)>
    private let feed: AsyncStream<(PeerID, Envelope)>.Continuation

    package private(set) var counters = Counters()
    private var outbox: Outbox
    private var socket: Socket?
    private var registration: UInt64?
    private var handshakes: SocketMonitor?
    private var handshakeRegistration: UInt64?
    private var isClosed = false
    private var strikes: [PeerID: Int] = [:]
    private let security: BusSecurity?
    private let logger: Logger

    /// - Parameters:
    ///   - session: of this run of the broker.
    ///   - epoch: rises with every start of the broker; workers echo it.
    ///   - security: puts TCP behind CURVE and holds every peer to its role.
    package init(loop: BusLoop, session: SessionID, epoch: UInt64, security: BusSecurity? = nil) {
        self.loop = loop
        self.security = security
        outbox = Outbox(session: session, epoch: epoch)
        logger = Logger(label: "zoetrope.bus.control-server")
        (incoming, feed) = AsyncStream.makeStream(bufferingPolicy: .bufferingOldest(ControlServer.incomingCapacity))
    }

    /// Listens on `endpoint`, beside the endpoints bound before.
    ///
    /// - Parameter insecure: permits TCP addresses that other hosts reach although there is no `security`.
    /// - Returns: where peers connect, with the port that 0 stood for.
    /// - Throws: `insecure_endpoint`, `endpoint_in_use`, `endpoint_unusable`, `bus_closed`.
    package func bind(_ endpoint: Endpoint, insecure: Bool) throws(Failure) -> Endpoint {
        try Binding.bind(openSocket(), endpoint, insecure: insecure, security)
    }

    /// Queues a message for a peer; never waits.
    ///
    /// A message that exceeds the limits of the wire is logged, and when it was an answer the peer gets the error
    /// instead.
    /// - Returns: false when the peer is gone, its queue is full or the message is too large: nothing was sent.
    @discardableResult
    package func send(_ message: Message, to peer: PeerID, inReplyTo: UInt64 = 0) -> Bool {
        guard let socket else { return false }
        let frame: [UInt8]
        do throws(Failure) {
            frame = try outbox.frame(message, inReplyTo: inReplyTo).frame
        } catch {
            logger.error("cannot send \(message.messageKind) to \(peer): \(error)")
            counters.unsent += 1
            guard inReplyTo != 0, message.messageKind != .error else { return false }
            send(.error(ErrorReply(error)), to: peer, inReplyTo: inReplyTo)
            return false
        }
        guard socket.send([.bytes(peer.bytes), .bytes(frame)]) == .sent else {
            counters.unsent += 1
            return false
        }
        counters.sent += 1
        return true
    }

    /// Closes the socket and ends `incoming`.
    package func close() {
        isClosed = true
        if let registration { loop.reactor.unregister(registration) }
        if let handshakeRegistration { loop.reactor.unregister(handshakeRegistration) }
        registration = nil
        handshakeRegistration = nil
        handshakes?.close()
        handshakes = nil
        socket?.close()
        socket = nil
        feed.finish()
    }

    private func openSocket() throws(Failure) -> Socket {
        if let socket { return socket }
        guard !isClosed else { throw Failure("bus_closed", "the control server was closed") }
        let opened = try Socket(loop.context, ZMQ_ROUTER)
        SocketProfile.control(opened)
        opened.set(ZMQ_ROUTER_MANDATORY, 1)
        try watchHandshakes(of: opened)
        registration = loop.reactor.register(
            opened, ready: { self.assumeIsolated { $0.drain() } }, close: { self.assumeIsolated { $0.close() } })
        socket = opened
        return opened
    }

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
        // Bounded, so that a flood of messages does not keep jobs and timers waiting.
        for _ in 0..<ControlServer.batch {
            guard let socket, socket.receive({ handle($0) }) else { return }
        }
    }

    private func handle(_ parts: ReceivedParts) {
        let peer = PeerID(parts[0], key: parts.userKey)
        let principal = peer.key.flatMap { security?.principal(of: $0) }
        // A peer without a key is our own user's process on ipc, or must not be here.
        if security != nil, peer.key == nil ? !parts.isFromSocketFile : principal == nil {
            counters.revoked += 1
            return
        }
        guard strikes[peer, default: 0] < ControlServer.strikeLimit else { return }
        guard parts.count == 2 else {
            return strike(peer, Failure("extra_frames", "a control message of \(parts.count - 1) frames; it has one"))
        }
        let envelope: Envelope
        do throws(Failure) {
            envelope = try EnvelopeCodec.decode(parts[1], from: [.worker, .client])
        } catch {
            return strike(peer, error)
        }
        if let objection = principal?.objection(to: envelope.message) {
            return forbid(objection, peer, principal, inReplyTo: envelope.sequence)
        }
        counters.received += 1
        if case .dropped = feed.yield((peer, envelope)) {
            counters.overflowed += 1
            let reply = ErrorReply(
                code: "overloaded", message: "the broker has more messages than it can take",
                retryAfterMilliseconds: 1000)
            send(.error(reply), to: peer, inReplyTo: envelope.sequence)
        }
    }

    private func forbid(_ objection: String, _ peer: PeerID, _ principal: Principal?, inReplyTo sequence: UInt64) {
        counters.forbidden += 1
        // The first says it all; a peer that goes on all day must not fill the disk.
        if counters.forbidden.nonzeroBitCount == 1 {
            logger.warning(
                "forbidden",
                metadata: [
                    "principal": "\(principal?.name ?? "")", "reason": "\(objection)",
                    "times": "\(counters.forbidden)",
                ])
        }
        send(.error(ErrorReply(code: "forbidden", message: objection)), to: peer, inReplyTo: sequence)
    }

    private func strike(_ peer: PeerID, _ failure: Failure) {
        counters.protocolErrors += 1
        // Peers that left are never reported, so the table is emptied when strangers have filled it.
        if strikes.count >= 4096 { strikes.removeAll() }
        strikes[peer, default: 0] += 1
        logger.warning("peer \(peer) sent no message of CVB/1 (\(strikes[peer, default: 0]) times): \(failure)")
        send(.error(ErrorReply(failure)), to: peer)
    }
}
