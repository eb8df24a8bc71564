import CZeroMQ
package import Failure
import Logging
package import Wire

/// A worker's, gateway's or command line's end of the control plane: one DEALER to the broker, reconnecting by itself.
///
/// Nothing is queued while the broker is away (a stale message would be acted on after its restart): `send` says so,
/// and whoever has state sends it again after `.connected`.
package actor ControlClient {
    package enum Event: Sendable, Hashable {
        /// The connection is up, for the first time or again.
        case connected
        case disconnected
        /// A message that answers no `request`.
        case received(Envelope)
    }

    private struct Pending {
        var message: Message
        var continuation: CheckedContinuation<Result<Message, Failure>, Never>
        /// Every sequence under which it was sent: the answer to any of them will do.
        var sequences: [UInt64] = []
        /// Whether it has been sent on the present connection.
        var isSent = false
        var timer: UInt64
    }

    private static let eventCapacity = 8192
    private static let batch = 64
    private static let shortestReconnectDelay = Duration.milliseconds(250)
    private static let longestReconnectDelay = Duration.seconds(5)

    package nonisolated let loop: BusLoop
    package nonisolated var unownedExecutor: UnownedSerialExecutor { loop.asUnownedSerialExecutor() }
    package nonisolated let endpoint: Endpoint

    /// In order; for one consumer. Ends with `close()`.
    package nonisolated let events: AsyncStream<Event>
    private let feed: AsyncStream<Event>.Continuation

    /// Frames from the broker that were no message of CVB/1.
    package private(set) var protocolErrors: UInt64 = 0
    package private(set) var isConnected = false
    private var outbox: Outbox
    private let socket: Socket
    private let monitor: SocketMonitor
    private var registrations: [UInt64] = []
    private var isClosed = false
    private var pending: [UInt64: Pending] = [:]
    private var nextPending: UInt64 = 0
    /// Whether the broker turned our key away at the newest try.
    private var isRefused = false
    private var failedHandshakes = 0
    private var isReconnecting = false
    private var reconnectDelay = ControlClient.shortestReconnectDelay
    private let credentials: Credentials?
    private let logger: Logger

    /// Begins to connect; `.connected` tells when the broker answers.
    ///
    /// - Parameter credentials: who we are and who the broker must be; used on TCP.
    /// - Throws: `endpoint_unusable`, `bus_closed`.
    package init(
        loop: BusLoop, endpoint: Endpoint, session: SessionID, credentials: Credentials? = nil
    ) throws(Failure) {
        self.loop = loop
        self.endpoint = endpoint
        self.credentials = credentials
        outbox = Outbox(session: session)
        logger = Logger(label: "zoetrope.bus.control-client")
        (events, feed) = AsyncStream.makeStream(bufferingPolicy: .bufferingOldest(ControlClient.eventCapacity))
        let socket = try Socket(loop.context, ZMQ_DEALER)
        SocketProfile.control(socket)
        socket.set(ZMQ_IMMEDIATE, 1)
        if case .tcp = endpoint, let credentials, let brokerKey = credentials.brokerKey {
            socket.presentCurve(credentials.identity, to: brokerKey)
        }
        // Watched before it connects, or the first connection could be missed.
        monitor = try SocketMonitor(socket, loop.context)
        try socket.connect(endpoint.description)
        self.socket = socket
        loop.post { self.assumeIsolated { $0.register() } }
    }

    /// The epoch that every later message echoes; from the broker's WELCOME.
    package func setBrokerEpoch(_ epoch: UInt64) { outbox.epoch = epoch }

    /// Queues a message for the broker; never waits.
    ///
    /// - Returns: its sequence; nil when there is no connection, the queue is full or the message exceeds a limit.
    @discardableResult
    package func send(_ message: Message, inReplyTo: UInt64 = 0) -> UInt64? {
        do throws(Failure) {
            return try transmit(message, inReplyTo: inReplyTo)
        } catch {
            logger.error("cannot send \(message.messageKind): \(error)")
            return nil
        }
    }

    /// Sends `message` and waits for the answer: the message whose `inReplyTo` names it.
    ///
    /// Waits for a connection first and sends again after a reconnect, so the message must be one that may arrive twice
    /// (every request of the protocol is).
    /// - Throws: the failure of an ERROR answer; `broker_unreachable` when `timeout` passes; `cancelled`; `too_large`;
    ///   `bus_closed`.
    package func request(_ message: Message, timeout: Duration) async throws(Failure) -> Message {
        guard !isClosed else { throw Failure("bus_closed", "the connection to \(endpoint) was closed") }
        nextPending += 1
        let identity = nextPending
        let result = await withTaskCancellationHandler {
            await withCheckedContinuation { continuation in
                begin(identity, message, timeout, continuation)
            }
        } onCancel: {
            loop.post {
                self.assumeIsolated {
                    $0.finish(identity, .failure(Failure("cancelled", "a request to the broker was cancelled")))
                }
            }
        }
        return try result.get()
    }

    /// Closes the connection, ends `events` and fails what waits with `bus_closed`.
    package func close() {
        guard !isClosed else { return }
        isClosed = true
        isConnected = false
        for registration in registrations { loop.reactor.unregister(registration) }
        registrations = []
        monitor.close()
        socket.close()
        for identity in Array(pending.keys) {
            finish(identity, .failure(Failure("bus_closed", "the connection to \(endpoint) was closed")))
        }
        feed.finish()
    }

    private func register() {
        guard !isClosed else { return }
        registrations = [
            loop.reactor.register(
                socket, ready: { self.assumeIsolated { $0.drain() } }, close: { self.assumeIsolated { $0.close() } }),
            monitor.register(
                loop.reactor, ready: { self.assumeIsolated { $0.drainMonitor() } },
                close: { self.assumeIsolated { $0.close() } }),
        ]
    }

    private func transmit(_ message: Message, inReplyTo: UInt64) throws(Failure) -> UInt64? {
        guard !isClosed else { return nil }
        let (frame, sequence) = try outbox.frame(message, inReplyTo: inReplyTo)
        return socket.send([.bytes(frame)]) == .sent ? sequence : nil
    }
}

// MARK: Requests

extension ControlClient {
    private func begin(
        _ identity: UInt64, _ message: Message, _ timeout: Duration,
        _ continuation: CheckedContinuation<Result<Message, Failure>, Never>
    ) {
        if Task.isCancelled {
            return continuation.resume(
                returning: .failure(Failure("cancelled", "a request to the broker was cancelled")))
        }
        let timer = loop.reactor.schedule(after: timeout) { self.assumeIsolated { $0.expire(identity) } }
        pending[identity] = Pending(message: message, continuation: continuation, timer: timer)
        attempt(identity)
    }

    private func attempt(_ identity: UInt64) {
        guard let request = pending[identity], !request.isSent else { return }
        do throws(Failure) {
            guard let sequence = try transmit(request.message, inReplyTo: 0) else { return retryLater(identity) }
            pending[identity]?.sequences.append(sequence)
            pending[identity]?.isSent = true
        } catch {
            finish(identity, .failure(error))
        }
    }

    /// A full queue empties without an event; without a connection the next one tries again anyway.
    private func retryLater(_ identity: UInt64) {
        guard isConnected else { return }
        loop.reactor.schedule(after: .milliseconds(50)) { self.assumeIsolated { $0.attempt(identity) } }
    }

    private func expire(_ identity: UInt64) {
        if isRefused, let key = credentials?.identity.publicKey {
            return finish(
                identity,
                .failure(
                    Failure(
                        "key_refused", "the broker at \(endpoint) does not admit the key \(key)", field: "key",
                        remedy: "On the broker's machine: zoetrope keys authorize NAME --role ROLE '\(key)'",
                        retry: .sameWorker)))
        }
        let state = isConnected ? "is connected but does not answer" : "cannot be reached"
        finish(
            identity,
            .failure(
                Failure(
                    "broker_unreachable", "the broker at \(endpoint) \(state)", field: "broker",
                    remedy: "Check that zoetrope-broker runs and that the endpoint is right.", retry: .sameWorker)))
    }

    private func finish(_ identity: UInt64, _ result: Result<Message, Failure>) {
        guard let request = pending.removeValue(forKey: identity) else { return }
        loop.reactor.cancelTimer(request.timer)
        request.continuation.resume(returning: result)
    }
}

// MARK: What arrives

extension ControlClient {
    private func drain() {
        for _ in 0..<ControlClient.batch {
            guard !isClosed, socket.receive({ handle($0) }) else { return }
        }
    }

    private func drainMonitor() {
        while !isClosed, let event = monitor.next() {
            switch event {
            case .connected:
                isConnected = true
                isRefused = false
                reconnectDelay = ControlClient.shortestReconnectDelay
                feed.yield(.connected)
                for identity in pending.keys.sorted() { attempt(identity) }
            case .disconnected:
                // Answers under way are lost with the connection.
                for identity in pending.keys { pending[identity]?.isSent = false }
                guard isConnected else { continue }
                isConnected = false
                feed.yield(.disconnected)
                reconnectLater()
            case .refused:
                noteRefusal()
                reconnectLater()
            case .failed:
                noteFailedHandshake()
                reconnectLater()
            }
        }
    }

    /// libzmq connects again by itself after a lost connection, but gives it up for good when the key was refused (it may
    /// be authorised meanwhile) or a byte was damaged on its way; the monitor does not tell which it was.
    private func reconnectLater() {
        guard !isReconnecting else { return }
        isReconnecting = true
        loop.reactor.schedule(after: reconnectDelay) { self.assumeIsolated { $0.reconnect() } }
        reconnectDelay = min(reconnectDelay * 2, ControlClient.longestReconnectDelay)
    }

    private func noteRefusal() {
        let key = credentials.map { " \($0.identity.publicKey)" } ?? ""
        if !isRefused { logger.warning("the broker at \(endpoint) does not admit our key\(key); trying again") }
        isRefused = true
    }

    private func reconnect() {
        isReconnecting = false
        guard !isClosed, !isConnected else { return }
        do throws(Failure) {
            try socket.connectAgain(endpoint.description)
        } catch {
            logger.error("cannot connect again: \(error)")
        }
    }

    private func noteFailedHandshake() {
        failedHandshakes += 1
        guard failedHandshakes == 3 else { return }
        let hint = credentials == nil ? "does it want a key (--key)?" : "is its public key the right one?"
        logger.warning("the broker at \(endpoint) breaks the handshake off: \(hint)")
    }

    private func handle(_ parts: ReceivedParts) {
        let envelope: Envelope
        do throws(Failure) {
            guard parts.count == 1 else {
                throw Failure("extra_frames", "a control message of \(parts.count) frames; it has one")
            }
            envelope = try EnvelopeCodec.decode(parts[0], from: .broker)
        } catch {
            protocolErrors += 1
            return logger.warning("the broker at \(endpoint) sent no message of CVB/1: \(error)")
        }
        let answered = pending.first { $0.value.sequences.contains(envelope.inReplyTo) }
        guard let answered else {
            feed.yield(.received(envelope))
            return
        }
        if case .error(let reply) = envelope.message {
            finish(answered.key, .failure(Failure(reply)))
        } else {
            finish(answered.key, .success(envelope.message))
        }
    }
}
