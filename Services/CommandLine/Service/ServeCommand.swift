package import ArgumentParser
import Checkpoint
import DemoModel
package import Failure
import Foundation
package import Runtime

/// `zoetrope serve`: a cluster on this machine that keeps running.
package struct ServeCommand: AsyncParsableCommand {
    package static let configuration = CommandConfiguration(
        commandName: "serve", abstract: "Run broker, gateway and workers on this machine until interrupted.")

    @Option(help: "Folder of a CogVideoX model in diffusers layout. [default: the built-in demo model]")
    package var model: String?

    @Option(help: "Address of the HTTP gateway.")
    package var listen = "127.0.0.1:8080"

    @Option(help: "Workers a stage, such as text-encoder=2,denoiser=2,vae-decoder=3.")
    package var workers: String?

    @Option(help: "Folder of the sockets. [default: $XDG_RUNTIME_DIR/zoetrope or /tmp/zoetrope-UID]")
    package var runDirectory: String?

    @Option(help: "Folder of the ledger and the stored tensors. [default: ~/.local/share/zoetrope]")
    package var dataDirectory: String?

    @Option(help: "Threads a worker uses. [default: one for each CPU it may use]")
    package var threads: Int?

    @Option(help: "CPUs of every worker, such as 0-7,16; auto divides them among a stage's workers. [default: all]")
    package var cpus: String?

    @Option(help: "Memory that the broker and each worker share with the others: 256MB, 1GB, or off. [default: 256MB]")
    package var sharedMemory: SharedMemorySize?

    @Option(help: "Seconds without a sign of life after which a worker's task goes to another.")
    package var leaseSeconds: Int = 15

    @Option(help: "Brokers, each with jobs of its own; when one dies the others go on. [from 1 to 8]")
    package var cells = 1

    @Option(help: "Folder of the LoRA adapters that requests may name. [default: they may name none]")
    package var adapters: String?

    @Flag(help: "Let the gateway listen beyond loopback; it has no keys and no encryption.")
    package var insecure = false

    @Option(help: "Let workers of other machines in: tcp://HOST:PORT. Encrypted; keys are made where there are none.")
    package var busListen: String?

    @Option(help: "Address under which other machines reach this one. [default: the host of --bus-listen]")
    package var advertiseHost: String?

    @Option(help: "With --bus-listen: first port of the data plane, one a process. [default: any free ones]")
    package var dataPort: UInt16?

    @Option(help: "With --bus-listen: folder of the keys. [default: keys, in the data directory]")
    package var keysDirectory: String?

    @OptionGroup package var upsampler: UpsamplerOptions
    @OptionGroup package var logging: LoggingOptions

    package init() {}

    package func validate() throws {
        guard (1...8).contains(cells) else { throw ValidationError("--cells \(cells) is not between 1 and 8.") }
        guard busListen != nil || (advertiseHost == nil && dataPort == nil && keysDirectory == nil) else {
            throw ValidationError("--advertise-host, --data-port and --keys-directory go with --bus-listen.")
        }
        guard busListen == nil || cells == 1 else {
            throw ValidationError("--bus-listen goes with one cell; start the brokers of several by hand.")
        }
    }

    package func run() async throws {
        let cpus = try CPUChoice(cpus, usable: .current())
        let folder = try ModelFolder(path: try model ?? DemoModel.path())
        var address = try ListenAddress(parsing: listen)
        if address.port == 0 { address.port = try ClusterSupervisor.freePort() }
        let data = dataDirectory ?? FileManager.default.homeDirectoryForCurrentUser.path + "/.local/share/zoetrope"
        var plan = ClusterPlan(
            model: folder.path, runDirectory: try RunDirectory.resolve(runDirectory).path, dataDirectory: data,
            gateway: address)
        plan.workers = try WorkerCounts.parse(workers)
        plan.threads = threads
        plan.cpus = cpus
        plan.sharedMemory = sharedMemory
        plan.cells = cells
        plan.leaseSeconds = leaseSeconds
        plan.upsamplerArguments = upsampler.arguments
        plan.insecure = insecure
        if let busListen {
            let bus = try SecureBus(
                listen: busListen, advertiseHost: advertiseHost, firstDataPort: dataPort,
                keysDirectory: keysDirectory ?? data + "/keys")
            for line in try bus.invitation() { Console.note(line) }
            plan.bus = bus
        }
        plan.keepsEmbeddings = true
        plan.adapters = adapters
        plan.logLevel = logging.logLevel
        plan.logFormat = logging.logFormat
        let supervisor = ClusterSupervisor(plan: plan, logFolder: nil) { Console.note($0) }
        let ready = "serving \(folder.name) at \(plan.server) with \(plan.members.count) processes; Ctrl-C stops them"
        do {
            try await Interruption.stopping(supervisor) {
                try await supervisor.start(timeout: .seconds(600))
                Console.print(ready)
                while true {
                    try await Task.sleep(for: .seconds(1))
                    if let failure = await supervisor.failure { throw failure }
                }
            }
        } catch {
            await supervisor.stop()
            throw error
        }
    }
}

/// `text-encoder=2,denoiser=3`.
package enum WorkerCounts {
    /// - Throws: `worker_counts_invalid` for a stage nobody has or a count that is not 1…64.
    package static func parse(_ text: String?) throws(Failure) -> [String: Int] {
        var counts: [String: Int] = [:]
        for part in (text ?? "").split(separator: ",") {
            let sides = part.split(separator: "=")
            guard sides.count == 2, ClusterPlan.stages.contains(String(sides[0])), let count = Int(sides[1]),
                (1...64).contains(count)
            else {
                throw Failure(
                    "worker_counts_invalid", "\"\(part)\" is not STAGE=COUNT", field: "workers",
                    remedy: "Stages: \(ClusterPlan.stages.joined(separator: ", ")); counts 1 to 64.")
            }
            counts[String(sides[0])] = count
        }
        return counts
    }
}
