import CZeroMQ
package import Failure
import Wire

/// Knocks at a socket of our own as strangers would: a process that would let them in must not start to serve.
package enum SecuritySelfTest {
    /// - Parameters:
    ///   - endpoint: where a socket behind `security` is bound; a wildcard is tried on loopback.
    ///   - patience: how long the handshakes may take on a busy machine.
    /// - Throws: `security_self_test_failed` when a stranger's key or no key at all is let in, or when the stranger is
    ///   not refused in time.
    package static func run(
        _ endpoint: Endpoint, _ security: BusSecurity, loop: BusLoop, patience: Duration = .seconds(10)
    ) async throws(Failure) {
        let target = reachable(endpoint)
        let stranger = try Stranger(
            loop: loop, endpoint: target, key: (try KeyPair.generate(), security.identity.publicKey))
        let nobody = try Stranger(loop: loop, endpoint: target, key: nil)
        async let strangersFate = stranger.fate(within: patience)
        async let nobodysFate = nobody.fate(within: patience)
        let fates = await (strangersFate, nobodysFate)
        guard fates.0 == .refused else {
            throw Failure(
                "security_self_test_failed",
                fates.0 == .admitted
                    ? "\(endpoint) admitted a key that nobody has authorised"
                    : "\(endpoint) did not refuse a stranger's key within \(patience)",
                field: "endpoint",
                remedy: "Report this with the version of libzmq; do not use --insecure to get round it.")
        }
        guard fates.1 != .admitted else {
            throw Failure("security_self_test_failed", "\(endpoint) admitted a peer without a key", field: "endpoint")
        }
    }

    private static func reachable(_ endpoint: Endpoint) -> Endpoint {
        guard case .tcp(let host, let port) = endpoint else { return endpoint }
        switch host {
        case "*", "0.0.0.0": return .tcp(host: "127.0.0.1", port: port)
        case "::": return .tcp(host: "::1", port: port)
        default: return endpoint
        }
    }
}

/// One knock, and how it ended.
private actor Stranger {
    enum Fate: Sendable {
        case admitted
        case refused
        case unheard
    }

    private nonisolated let loop: BusLoop
    nonisolated var unownedExecutor: UnownedSerialExecutor { loop.asUnownedSerialExecutor() }
    private let socket: Socket
    private let monitor: SocketMonitor
    private let isKeyed: Bool
    private let endpoint: String
    private var registration: UInt64?
    private var timer: UInt64?
    private var continuation: CheckedContinuation<Fate, Never>?

    init(loop: BusLoop, endpoint: Endpoint, key: (identity: KeyPair, server: PublicKey)?) throws(Failure) {
        self.loop = loop
        self.endpoint = endpoint.description
        isKeyed = key != nil
        socket = try Socket(loop.context, ZMQ_DEALER)
        SocketProfile.control(socket)
        if let key { socket.presentCurve(key.identity, to: key.server) }
        monitor = try SocketMonitor(socket, loop.context)
    }

    func fate(within patience: Duration) async -> Fate {
        await withCheckedContinuation { continuation in
            self.continuation = continuation
            registration = monitor.register(
                loop.reactor, ready: { self.assumeIsolated { $0.drain() } },
                close: { self.assumeIsolated { $0.end(.unheard) } })
            timer = loop.reactor.schedule(after: patience) { self.assumeIsolated { $0.end(.unheard) } }
            do throws(Failure) {
                try socket.connect(endpoint)
            } catch {
                end(.unheard)
            }
        }
    }

    private func drain() {
        while continuation != nil, let event = monitor.next() {
            switch event {
            case .connected: end(.admitted)
            case .refused: end(.refused)
            // Without a key the connection just ends: the peer speaks another mechanism.
            case .disconnected, .failed: if !isKeyed { end(.refused) }
            }
        }
    }

    private func end(_ fate: Fate) {
        guard let continuation else { return }
        self.continuation = nil
        if let registration { loop.reactor.unregister(registration) }
        if let timer { loop.reactor.cancelTimer(timer) }
        monitor.close()
        socket.close()
        continuation.resume(returning: fate)
    }
}
