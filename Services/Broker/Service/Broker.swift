import Bus
package import Failure
import Foundation
package import Ledger
package import Logging
import Runtime
import ServiceLifecycle
import Wire
import Work

/// The broker: ledger, blob store, control and data sockets around one state machine.
///
/// Started again on the same data directory it goes on where it was: every accepted job is there, and running tasks
/// continue on their workers, which introduce themselves anew.
///
/// ```swift
/// let broker = Broker(settings: settings, logger: logger)
/// let addresses = try await broker.start()
/// …
/// await broker.stop()
/// ```
package actor Broker: Service {
    private struct Parts {
        var loop: BusLoop
        var server: ControlServer
        var data: DataServer
        var core: BrokerCore
        var ledger: Ledger?
        var receiver: Task<Void, Never>
        var ticker: Task<Void, Never>
        var runner: Task<Void, any Error>
        var keyWatcher: Task<Void, Never>?
    }

    private static let tickInterval = Duration.milliseconds(100)
    private static let dataBudgetBytes = 256 * 1024 * 1024

    let settings: BrokerSettings
    let logger: Logger
    private let givenStore: (any EntryStore)?
    private let announce: @Sendable (BrokerAddresses) -> Void
    private var parts: Parts?
    private var stopping: Task<Void, Never>?

    /// - Parameters:
    ///   - store: nil = the ledger in the data directory.
    ///   - announce: called once the broker can be reached.
    package init(
        settings: BrokerSettings, logger: Logger, store: (any EntryStore)? = nil,
        announce: @escaping @Sendable (BrokerAddresses) -> Void = { _ in }
    ) {
        self.settings = settings
        self.logger = logger
        givenStore = store
        self.announce = announce
    }

    /// Runs until a graceful shutdown, or until the ledger makes it impossible to go on.
    package func run() async throws {
        if parts == nil { try await start() }
        guard let runner = parts?.runner else { return }
        do {
            try await withGracefulShutdownHandler {
                try await runner.value
            } onGracefulShutdown: {
                Task { await self.stop() }
            }
        } catch {
            await stop()
            throw error
        }
        await stop()
    }

    /// Opens ledger and store, binds the sockets and begins to serve.
    /// - Throws: what ledger, store or sockets say; nothing stays open then.
    @discardableResult
    package func start() async throws(Failure) -> BrokerAddresses {
        let ledger: Ledger?
        let store: any EntryStore
        if let givenStore {
            ledger = nil
            store = givenStore
        } else {
            let opened = try Ledger(directory: settings.dataDirectory)
            ledger = opened
            store = opened
        }
        let wanted: String? = if let given = settings.cell { try CellName(given).text } else { nil }
        let cell = try CellName(try store.cell(named: wanted))
        let records = try store.load()
        let blobs = try BlobStore(directory: settings.dataDirectory + "/blobs")
        let loop = try BusLoop(name: "broker-bus")
        do throws(Failure) {
            let session = SessionID.random()
            let sink = AnnouncedStore(blobs)
            let security = try openSecurity(loop)
            let access = security.map { AccessControl($0) }
            let data = DataServer(
                loop: loop, session: session, source: blobs, sink: sink, security: security,
                budgetBytes: Self.dataBudgetBytes)
            let (dataEndpoints, locations) = try await bindData(data, security)
            await lendMemory(data)
            let server = ControlServer(loop: loop, session: session, epoch: store.epoch, security: security)
            var state = makeState(cell, epoch: store.epoch, records: records, locations: locations)
            state.noteStored(blobs.digests, now: BootClock.now())
            let core = BrokerCore(
                state: state, store: store, server: server, removeBlob: { blobs.remove($0) }, access: access,
                // The data server leads back to the core, through the store that announces blobs.
                measures: { [weak server, weak data] in await Self.counts(server, data, security) }, logger: logger)
            sink.announce { await core.expect($0) }
            let control = try await bindControl(server)
            if let security {
                try await test(security, control + dataEndpoints, loop)
                // What the test's strangers left behind.
                await server.countHandshakes()
                await data.countHandshakes()
                security.resetCounters()
            }
            parts = begin(loop: loop, server: server, data: data, core: core, ledger: ledger)
            if let security { parts?.keyWatcher = watchKeys(security, core) }
            let addresses = BrokerAddresses(
                control: control.map(\.description), data: dataEndpoints.map(\.description), epoch: store.epoch,
                cell: cell.text)
            warnAboutLoopback(locations)
            logger.notice(
                "broker ready",
                metadata: [
                    "endpoints": "\(addresses.control.joined(separator: " "))", "epoch": "\(store.epoch)",
                    "cell": "\(cell)",
                    "unfinished jobs": "\(records.unfinished.count)",
                ])
            announce(addresses)
            return addresses
        } catch {
            await loop.shutdown()
            try? ledger?.close()
            throw error
        }
    }

    /// Stops serving: what was received is handled and committed, then everything closes. Workers go on computing.
    package func stop() async {
        if let parts {
            self.parts = nil
            stopping = Task { await close(parts) }
        }
        // Whoever asks second waits as well: the process must not end before the ledger is closed.
        await stopping?.value
    }

    private func close(_ parts: Parts) async {
        parts.keyWatcher?.cancel()
        parts.ticker.cancel()
        await parts.receiver.cancelAndWait()
        await parts.core.stop()
        _ = await parts.runner.result
        await parts.server.close()
        await parts.data.close()
        await parts.loop.shutdown()
        try? parts.ledger?.close()
        logger.info("broker stopped")
    }

    // MARK: Wiring

    private func makeState(
        _ cell: CellName, epoch: UInt64, records: Records, locations: [Location]
    ) -> BrokerState {
        var configuration = BrokerConfiguration(epoch: epoch)
        configuration.cell = cell.text
        configuration.beatMilliseconds = settings.beatMilliseconds
        configuration.leaseMilliseconds = settings.leaseMilliseconds
        configuration.retentionMilliseconds = settings.retentionMilliseconds
        configuration.stallMilliseconds = settings.stallMilliseconds
        configuration.storeLocations = locations
        configuration.boot = BootClock.run()
        configuration.unfinishedJobLimit = settings.queueLimit
        configuration.tenantJobLimit = settings.tenantLimit
        configuration.backlogPerSlot = settings.backlogLimit
        return BrokerState(configuration: configuration, records: records, startedAt: BootClock.now()) {
            cell.newJob()
        }
    }

    private func bindControl(_ server: ControlServer) async throws(Failure) -> [Endpoint] {
        var bound = [try await server.bind(settings.localEndpoint, insecure: false)]
        for endpoint in settings.listen {
            bound.append(try await server.bind(endpoint, insecure: settings.isInsecurePermitted))
        }
        return bound
    }

    /// The blob store is always on ipc, and on TCP when the broker is.
    private func bindData(
        _ data: DataServer, _ security: BusSecurity?
    ) async throws(Failure) -> (endpoints: [Endpoint], locations: [Location]) {
        let socket = "\(settings.socketName)-data.sock"
        let local = Endpoint.ipc(path: settings.runDirectory.socketPath(socket))
        var endpoints = [try await data.bind(local, insecure: false)]
        var locations = [Location.ipc(host: settings.runDirectory.hostIdentity, socket: socket)]
        guard !settings.listen.isEmpty else { return (endpoints, locations) }
        let address = try AdvertisedAddress.resolve(settings.advertiseHost, listeningOn: settings.listen)
        let isLocal = Endpoint.tcp(host: address, port: 0).isLoopback
        let wanted = Endpoint.tcp(host: isLocal ? address : "*", port: settings.dataPort)
        let bound = try await data.bind(wanted, insecure: settings.isInsecurePermitted)
        endpoints.append(bound)
        if case .tcp(_, let port) = bound {
            locations.append(Location.tcp(address: address, port: port).keyed(security?.identity.publicKey))
        }
        return (endpoints, locations)
    }

    /// Shared memory is a shorter way and never the only one: a broker that cannot have it serves all the same.
    private func lendMemory(_ data: DataServer) async {
        guard settings.sharedMemoryBytes > 0 else { return }
        do throws(Failure) {
            try await data.lendMemory(
                through: settings.runDirectory.socketPath("memory-\(settings.socketName).sock"),
                budgetBytes: settings.sharedMemoryBytes)
        } catch {
            logger.notice("blobs go over sockets only: \(error)")
        }
    }

    private func warnAboutLoopback(_ locations: [Location]) {
        guard !settings.listen.allSatisfy(\.isLoopback) else { return }
        for location in locations {
            guard case .tcp(let address, _)? = location.endpoint(in: settings.runDirectory),
                Endpoint.tcp(host: address, port: 0).isLoopback
            else { continue }
            logger.warning(
                "workers on other hosts cannot reach the blob store at \(address); name this host with --advertise-host"
            )
        }
    }

    private func begin(
        loop: BusLoop, server: ControlServer, data: DataServer, core: BrokerCore, ledger: Ledger?
    ) -> Parts {
        let receiver = Task {
            for await (peer, envelope) in server.incoming {
                while await core.isFull, !Task.isCancelled { try? await Task.sleep(for: .milliseconds(2)) }
                await core.receive(peer, envelope)
            }
        }
        let ticker = Task {
            while !Task.isCancelled {
                await core.tick()
                try? await Task.sleep(for: Self.tickInterval)
            }
        }
        let runner = Task { try await core.run() }
        return Parts(
            loop: loop, server: server, data: data, core: core, ledger: ledger, receiver: receiver, ticker: ticker,
            runner: runner, keyWatcher: nil)
    }
}

extension Task where Success == Void, Failure == Never {
    fileprivate func cancelAndWait() async {
        cancel()
        await value
    }
}
