import Failure

// Connections to holders: made on demand, watched, dropped when idle.
extension DataClient {
    func openLink(_ endpoint: Holder) throws(Failure) -> DataLink {
        if let link = links[endpoint] { return link }
        guard !isClosed else { throw DataClient.closed }
        let link = try DataLink(endpoint, access?.identity, loop.context)
        let close: @Sendable () -> Void = { self.assumeIsolated { $0.close() } }
        link.registrations = [
            loop.reactor.register(
                link.socket, ready: { self.assumeIsolated { $0.drain(endpoint) } }, close: close),
            link.monitor.register(
                loop.reactor, ready: { self.assumeIsolated { $0.drainMonitor(endpoint) } }, close: close),
        ]
        links[endpoint] = link
        if sweepTimer == nil { scheduleSweep() }
        return link
    }

    func removeLink(_ endpoint: Holder, because reason: String = "was disconnected") {
        guard let link = links.removeValue(forKey: endpoint) else { return }
        link.close(loop.reactor)
        for identity in link.transfers { finish(identity, .lost(reason)) }
    }

    private func drain(_ endpoint: Holder) {
        guard let link = links[endpoint] else { return }
        for _ in 0..<DataClient.batch {
            guard links[endpoint] === link, link.socket.receive({ handle($0, from: link) }) else { return }
        }
    }

    private func drainMonitor(_ endpoint: Holder) {
        while let link = links[endpoint], let event = link.monitor.next() {
            switch event {
            case .connected:
                link.isUp = true
                for identity in link.transfers.sorted() { ask(identity) }
            // Chunks on their way are gone and the holder forgets us: start over rather than wait for silence. On another
            // socket, for libzmq gives a connection up for good when a byte of it was damaged.
            case .disconnected: removeLink(endpoint, because: "closed the connection")
            // libzmq has given this connection up; whoever tries next opens another.
            case .refused: removeLink(endpoint, because: "does not admit our key")
            case .failed: connectAgain(link)
            }
        }
    }

    /// A handshake that broke off may be taken up by libzmq or not; those who wait for the connection go on waiting.
    private func connectAgain(_ link: DataLink) {
        let endpoint = link.endpoint
        let broken = ObjectIdentifier(link)
        loop.reactor.schedule(after: DataClient.reconnectDelay) {
            self.assumeIsolated { client in
                guard let link = client.links[endpoint], ObjectIdentifier(link) == broken, !link.isUp else { return }
                // Where that fails the patience of the transfers ends it.
                try? link.socket.connectAgain(endpoint.endpoint.description)
            }
        }
    }

    func scheduleSweep() {
        sweepTimer = loop.reactor.schedule(after: linkIdleTime / 4) { self.assumeIsolated { $0.sweep() } }
    }

    private func sweep() {
        sweepTimer = nil
        let limit = ContinuousClock.now - linkIdleTime
        for (endpoint, link) in links where link.transfers.isEmpty && link.lastUse < limit { removeLink(endpoint) }
        closeIdleAccesses(before: limit)
        if !links.isEmpty || !accesses.isEmpty { scheduleSweep() }
    }
}
