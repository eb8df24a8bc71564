import ArgumentParser
import Bus
import Checkpoint
import DemoModel
import Failure
import GatewayService
import Model
import NIOCore
import Request
import Runtime

@main
struct GatewayMain {
    static func main() async { await Launch.run(GatewayCommand.self, service: "gateway") }
}

struct GatewayCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "zoetrope-gateway", abstract: "Serves videos over HTTP (/v1/videos) for a broker and its workers.")

    @Option(help: "Where to listen: host:port.")
    var listen = "127.0.0.1:8080"

    @Option(
        help: "A broker: [NAME=]ipc://PATH or tcp://HOST:PORT; repeatable, one for each cell. Default: broker.sock.")
    var broker: [String] = []

    @Option(help: "Folder of the cluster's sockets.")
    var runDirectory: String?

    @Option(help: "Model folder in diffusers layout. Default: the demo model.")
    var model: String?

    @Option(help: "The model's digest where its weights are not at hand; zoetrope models inspect prints it.")
    var modelDigest: String?

    @Option(help: "Folder of the LoRA adapters that requests may name. Default: they may name none.")
    var adapters: String?

    @OptionGroup var keys: KeyOptions

    @Option(help: "File with the token that administrators show (zoetrope keys token); needed to drain with keys.")
    var adminTokenFile: String?

    @Flag(help: "Allow addresses that other machines can reach: requests are not authenticated.")
    var insecure = false

    @OptionGroup var logging: LoggingOptions

    func validate() throws {
        let isDigest = modelDigest.map { $0.count == 64 && $0.allSatisfy { "0123456789abcdef".contains($0) } } ?? true
        guard isDigest else { throw ValidationError("--model-digest must be 64 lower-case hexadecimal digits.") }
    }

    func run() async throws {
        let logger = logging.logger(service: "gateway")
        let address = try ListenAddress(parsing: listen)
        try address.checkReach(insecure: insecure)
        let directory = try RunDirectory.resolve(runDirectory)
        let brokers = try BrokerAddress.parse(
            broker, fallback: .ipc(path: directory.socketPath("broker.sock")), key: keys.key,
            brokerPublicKeys: keys.brokerPublicKey)
        let folder = try ModelFolder(path: try model ?? DemoModel.path())
        let traits = try ModelTraits(folder: folder, digest: modelDigest)
        let administration = try adminGate(isKeyed: brokers.contains { $0.credentials != nil })
        let library = try adapters.map { (path) throws(Failure) in
            try AdapterLibrary(path: path, shapes: Transformer3D.expectedWeights(folder.transformer))
        }
        let loop = try BusLoop(name: "gateway")
        let services = brokers.map {
            BusJobService(
                loop: loop, endpoint: $0.endpoint, runDirectory: directory, credentials: $0.credentials)
        }
        let cells = CellJobService(
            zip(brokers, services).map { broker, service in
                CellJobService.Member(service: service, address: broker.endpoint.description, name: broker.cell)
            })
        let service: any JobService = brokers.count == 1 && brokers[0].cell == nil ? services[0] : cells
        if brokers.count > 1 { Task { await cells.begin() } }
        let gateway = Gateway(
            service: service, traits: traits, administration: administration, adapters: library)
        let application = gateway.application(listen: address, logger: logger)
        do {
            try await Lifecycle.run([application, DescriptorWatch(logger: logger)], logger: logger)
        } catch {
            await close(cells, services, loop)
            guard let reason = error as? IOError else { throw error }
            throw Failure(
                "listen_address_unusable", "\(address) cannot be listened on: \(reason).", field: "listen",
                remedy: "Free the port or choose another with --listen.")
        }
        await close(cells, services, loop)
    }

    private func close(_ cells: CellJobService, _ services: [BusJobService], _ loop: BusLoop) async {
        await cells.close()
        for service in services { await service.close() }
        await loop.shutdown()
    }

    /// A bus with keys has administrators, who must be told from others; without keys whoever gets here is trusted.
    private func adminGate(isKeyed: Bool) throws(Failure) -> AdminGate {
        if let adminTokenFile { return .token(try AdminToken(file: adminTokenFile)) }
        return isKeyed ? .closed : .open
    }
}
