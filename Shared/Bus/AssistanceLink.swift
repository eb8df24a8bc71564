package import Failure
import Logging
package import Wire

/// An assistant's connection to the leader of a task, for as long as it helps.
package actor AssistanceLink {
    package nonisolated let loop: BusLoop
    package nonisolated var unownedExecutor: UnownedSerialExecutor { loop.asUnownedSerialExecutor() }

    /// The workers on the task, as seen from here.
    package nonisolated let party: AssistanceParty
    private nonisolated let orders: Orders
    private let secret: [UInt8]
    private let logger = Logger(label: "zoetrope.bus.assistance")
    private var outbox: Outbox
    private var link: DataLink?
    private var queue: [(part: AssistPart, payload: Frame)] = []
    private var isParked = false
    private var lastHeard = ContinuousClock.now
    private var isOver = false

    /// Carries what the party asks for to the actor, which exists only after it.
    private final class Orders: Sendable {
        let stream: AsyncStream<AssistanceParty.Order>
        let feed: AsyncStream<AssistanceParty.Order>.Continuation
        init() { (stream, feed) = AsyncStream.makeStream() }
    }

    init(loop: BusLoop, session: SessionID, secret: [UInt8]) {
        self.loop = loop
        self.secret = secret
        outbox = Outbox(session: session)
        let orders = Orders()
        self.orders = orders
        party = AssistanceParty(isLeader: false) { orders.feed.yield($0) }
    }

    /// Connects to the first of the holders that can be reached, and says that we are there.
    ///
    /// - Throws: `assistance_unreachable`.
    func open(_ holders: [Holder], _ identity: KeyPair?) async throws(Failure) {
        for holder in holders {
            try connect(holder, identity)
            let deadline = ContinuousClock.now + DataClient.connectPatience
            while link?.isUp == false, .now < deadline, !Task.isCancelled {
                await withCheckedContinuation { continuation in
                    _ = loop.reactor.schedule(after: .milliseconds(5)) { continuation.resume() }
                }
            }
            if link?.isUp == true { return begin() }
            disconnect()
        }
        throw Failure(
            "assistance_unreachable", "the leader can be reached at none of \(holders.count) places",
            retry: .otherWorker)
    }

    /// Leaves. `afterSending` lets go of the connection only when what was said last had a moment to leave.
    package func close(afterSending: Bool) async {
        if afterSending, !isOver {
            await withCheckedContinuation { continuation in
                _ = loop.reactor.schedule(after: .milliseconds(50)) { continuation.resume() }
            }
        }
        close()
    }

    private func close() { finish(Failure("assistance_ended", "the assistance was closed")) }

    private func connect(_ holder: Holder, _ identity: KeyPair?) throws(Failure) {
        let opened = try DataLink(holder, identity, loop.context)
        let close: @Sendable () -> Void = { self.assumeIsolated { $0.close() } }
        opened.registrations = [
            loop.reactor.register(opened.socket, ready: { self.assumeIsolated { $0.drain() } }, close: close),
            opened.monitor.register(
                loop.reactor, ready: { self.assumeIsolated { $0.drainMonitor() } }, close: close),
        ]
        link = opened
    }

    private func disconnect() {
        link?.close(loop.reactor)
        link = nil
    }

    private func begin() {
        lastHeard = .now
        _ = transmit(.assistJoin(secret: secret))
        schedulePulse()
        Task {
            for await order in orders.stream {
                switch order {
                case .send(let part, let tensor):
                    queue += AssistPart.pieces(of: tensor, part)
                    pump()
                case .end(let end), .endAfterSending(let end):
                    _ = transmit(.assistEnd(end))
                }
            }
        }
    }

    private func finish(_ reason: Failure) {
        guard !isOver else { return }
        isOver = true
        party.end(with: reason)
        orders.feed.finish()
        disconnect()
    }

    private func transmit(_ message: Message, payload: Frame? = nil) -> SendOutcome {
        guard let link else { return .unreachable }
        do throws(Failure) {
            let frame = Frame.bytes(try outbox.frame(message).frame)
            return link.socket.send(payload.map { [frame, $0] } ?? [frame])
        } catch {
            logger.error("cannot send \(message.messageKind): \(error)")
            return .unreachable
        }
    }

    private func pump() {
        while !isParked, let next = queue.first {
            guard transmit(.assistPart(next.part), payload: next.payload) == .sent else {
                // A connection that is gone is reported by the monitor.
                isParked = true
                loop.reactor.schedule(after: DataServer.retryDelay) {
                    self.assumeIsolated {
                        $0.isParked = false
                        if !$0.isOver { $0.pump() }
                    }
                }
                return
            }
            queue.removeFirst()
        }
    }

    // MARK: What the leader says

    private func drain() {
        for _ in 0..<DataClient.batch {
            guard let link, link.socket.receive({ handle($0) }) else { return }
        }
    }

    private func handle(_ parts: ReceivedParts) {
        let message: Message
        do throws(Failure) {
            message = try EnvelopeCodec.decode(parts[0], from: .store).message
            guard message.messageKind.carriesPayload == (parts.count == 2) else {
                throw Failure("extra_frames", "\(message.messageKind) with \(parts.count - 1) payload frames")
            }
        } catch {
            return finish(Failure("malformed", "the leader sent no message of CVB/1: \(error.message)"))
        }
        lastHeard = .now
        switch message {
        case .assistPart(let part):
            guard part.isIntact(parts[1]), party.deliver(part, parts[1]) else {
                return finish(Failure("malformed", "the leader sent a piece that does not fit"))
            }
        case .assistEnd(let end): finish(Failure("assistance_ended", "\(end.code): \(end.message)"))
        case .error(let error): finish(Failure(error))
        default: break
        }
    }

    private func drainMonitor() {
        while let link, let event = link.monitor.next() {
            switch event {
            case .connected: link.isUp = true
            case .disconnected, .refused, .failed:
                if link.isUp { finish(Failure("assistance_ended", "the leader is gone")) }
                return
            }
        }
    }

    private func schedulePulse() {
        loop.reactor.schedule(after: DataServer.pulseInterval) { self.assumeIsolated { $0.pulse() } }
    }

    private func pulse() {
        guard !isOver else { return }
        _ = transmit(.assistPulse)
        if lastHeard < .now - DataServer.pulsePatience {
            return finish(Failure("assistance_ended", "the leader was not heard for \(DataServer.pulsePatience)"))
        }
        schedulePulse()
    }
}

extension DataClient {
    /// Goes to help where the order says.
    ///
    /// - Throws: `assistance_unreachable`, `bus_closed`.
    package func join(_ order: AssistOrder) async throws(Failure) -> AssistanceLink {
        let assistance = AssistanceLink(loop: loop, session: outbox.session, secret: order.secret)
        try await assistance.open(endpoints(of: order.locations), access?.identity)
        return assistance
    }
}
