import Bus
import Failure
import Glibc
package import Logging
import Runtime
import ServiceLifecycle
import Wire

/// A worker process's one service: announces its stage to the broker, computes what it is given, serves its outputs.
///
/// Ends after SIGTERM or an order to drain: computations stop at their next step, their checkpoints are stored, leases are
/// handed back. Ends with `compute_hung` when a computation neither goes on nor stops.
package struct StageWorker: Service, CustomStringConvertible {
    private let handler: any StageHandler
    private let configuration: WorkerConfiguration
    private let logger: Logger

    /// Nothing is opened before `run`.
    package init(handler: any StageHandler, configuration: WorkerConfiguration, logger: Logger) {
        self.handler = handler
        self.configuration = configuration
        self.logger = logger
    }

    package var description: String { configuration.name }

    /// Fails with the codes of `Endpoint` and sockets: an address in use, TCP beyond loopback without `insecure`.
    package func run() async throws {
        let loop = try BusLoop(name: handler.stage)
        let session = SessionID.random()
        let outputs = MemoryStore(budgetBytes: configuration.outputBytes)
        var security: BusSecurity?
        if let identity = configuration.brokers.lazy.compactMap(\.credentials).first?.identity {
            security = try BusSecurity(loop: loop, identity: identity)
        }
        let server = DataServer(
            loop: loop, session: session, source: outputs, security: security, budgetBytes: 256 << 20)
        let dataLocations = try await bind(server, session: session, security, loop)
        await lendMemory(server, session)
        let links = try configuration.brokers.map { broker in try link(to: broker, loop) }
        let hello = Hello(
            worker: configuration.name, capabilities: handler.capabilities,
            slots: UInt32(clamping: configuration.slots),
            dataLocations: dataLocations, numerics: handler.numerics, processID: UInt32(getpid()),
            predecessorProcessID: configuration.predecessor.processID,
            predecessorEnd: configuration.predecessor.end)
        let driver = WorkerDriver(
            handler: handler, hello: hello, links: links, outputs: outputs, server: server, security: security,
            grace: configuration.shutdownGrace, logger: logger)
        logger.info(
            "ready",
            metadata: [
                "worker": "\(configuration.name)",
                "broker": "\(configuration.brokers.map(\.endpoint.description).joined(separator: " "))",
                "data": "\(dataLocations.map(Self.text).joined(separator: " "))",
            ])
        let problem = await withTaskCancellationOrGracefulShutdownHandler {
            await driver.run()
        } onCancelOrGracefulShutdown: {
            driver.shutDown()
        }
        for link in links { await link.client.close() }
        await server.close()
        for link in links { await link.data.close() }
        await loop.shutdown()
        if let problem { throw problem }
    }

    /// Each broker knows the worker under a session of its own, and gives the tickets for its own jobs' blobs.
    private func link(to broker: BrokerAddress, _ loop: BusLoop) throws(Failure) -> CellLink {
        let session = SessionID.random()
        let client = try ControlClient(
            loop: loop, endpoint: broker.endpoint, session: session, credentials: broker.credentials)
        let access = broker.credentials.map { DataAccess(identity: $0.identity, broker: client) }
        let data = DataClient(
            loop: loop, session: session, runDirectory: configuration.runDirectory, access: access,
            sharesMemory: configuration.sharedMemoryBytes > 0)
        return CellLink(expectedName: broker.cell, client: client, data: data, store: DurableStore(client: data))
    }

    /// Opens the data plane on this host's run directory, and on TCP where the broker or a flag asks for it.
    private func bind(
        _ server: DataServer, session: SessionID, _ security: BusSecurity?, _ loop: BusLoop
    ) async throws(Failure) -> [Location] {
        LeftoverSockets.remove(from: configuration.runDirectory)
        let socket = "data-\(session.description.prefix(16)).sock"
        _ = try await server.bind(
            .ipc(path: configuration.runDirectory.socketPath(socket)), insecure: configuration.insecure)
        var locations = [Location.ipc(host: configuration.runDirectory.hostIdentity, socket: socket)]
        var port = configuration.dataPort
        let remote = configuration.brokers.lazy.map(\.endpoint).first { if case .tcp = $0 { true } else { false } }
        if port == nil, remote != nil { port = 0 }
        guard let port else { return locations }
        let address: String
        if let advertised = configuration.advertisedAddress {
            address = advertised
        } else {
            address = try LocalAddress.facing(remote ?? configuration.brokers[0].endpoint)
        }
        let bound = try await server.bind(.tcp(host: address, port: port), insecure: configuration.insecure)
        if let security { try await SecuritySelfTest.run(bound, security, loop: loop) }
        if case .tcp(_, let actualPort) = bound {
            locations.append(
                Location.tcp(address: address, port: actualPort).keyed(security?.identity.publicKey))
        }
        return locations
    }

    /// Shared memory is a shorter way and never the only one: a worker that cannot have it serves all the same.
    private func lendMemory(_ server: DataServer, _ session: SessionID) async {
        guard configuration.sharedMemoryBytes > 0 else { return }
        let path = configuration.runDirectory.socketPath("memory-\(session.description.prefix(16)).sock")
        do throws(Failure) {
            try await server.lendMemory(through: path, budgetBytes: configuration.sharedMemoryBytes)
        } catch {
            logger.notice("blobs go over sockets only: \(error)")
        }
    }

    private static func text(_ location: Location) -> String {
        switch location {
        case .tcp(let address, let port), .curve(let address, let port, _):
            address.contains(":") ? "tcp://[\(address)]:\(port)" : "tcp://\(address):\(port)"
        case .ipc(_, let socket): "ipc:\(socket)"
        }
    }
}
