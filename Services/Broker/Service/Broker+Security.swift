import Bus
import Failure
import Logging
import Wire

// The broker's keys: read at start, proved by strangers that are refused, read again when they change.
extension Broker {
    private static let keyWatchInterval = Duration.seconds(1)

    /// - Returns: nil for a broker without a key, which serves ipc and loopback.
    func openSecurity(_ loop: BusLoop) throws(Failure) -> BusSecurity? {
        guard let keyFile = settings.keyFile, let authorizedPath = settings.authorizedKeysPath else { return nil }
        let security = try BusSecurity(loop: loop, identity: try KeyPair(file: keyFile))
        let authorized = try AuthorizedKeys(file: authorizedPath)
        security.admit(authorized.principals)
        logger.notice(
            "keys",
            metadata: [
                "broker": "\(security.identity.publicKey)", "authorised": "\(authorized.principals.count)",
                "file": "\(authorizedPath)",
            ])
        return security
    }

    /// - Throws: `security_self_test_failed`.
    func test(_ security: BusSecurity, _ endpoints: [Endpoint], _ loop: BusLoop) async throws(Failure) {
        for endpoint in endpoints {
            guard case .tcp = endpoint else { continue }
            try await SecuritySelfTest.run(endpoint, security, loop: loop)
            logger.info("a stranger's key was refused", metadata: ["endpoint": "\(endpoint)"])
        }
    }

    func watchKeys(_ security: BusSecurity, _ core: BrokerCore) -> Task<Void, Never>? {
        guard let path = settings.authorizedKeysPath else { return nil }
        let logger = logger
        return Task {
            var watch = KeyWatch(path: path)
            while !Task.isCancelled {
                try? await Task.sleep(for: Self.keyWatchInterval)
                guard let authorized = watch.poll(logger) else { continue }
                let before = security.principals
                security.admit(authorized.principals)
                logger.notice("keys changed", metadata: ["authorised": "\(authorized.principals.count)"])
                await core.keysChanged(before: before)
            }
        }
    }
}
