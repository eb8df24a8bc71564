package import ArgumentParser
import Bus
package import Checkpoint
package import Failure
import FoundationEssentials
import Glibc
package import Logging
package import Runtime
import Wire

/// The flags every worker has.
package struct WorkerOptions: ParsableArguments {
    @Option(
        help: "A broker: [NAME=]ipc://PATH or tcp://HOST:PORT; repeatable, one for each cell. Default: broker.sock.")
    package var broker: [String] = []

    @Option(help: "Folder of this host's sockets. Default: $XDG_RUNTIME_DIR/zoetrope, else /tmp/zoetrope-UID.")
    package var runDirectory: String?

    @Option(help: "Name in status answers. Default: STAGE@HOST:PID.")
    package var name: String?

    @Option(help: "Tasks computed at the same time.")
    package var slots: Int = 1

    @Option(help: "TCP port of the data plane, 0 for any. Default: any when the broker is on TCP, else ipc only.")
    package var dataPort: UInt16?

    @Option(help: "Numeric address other machines reach this worker at. Default: the one that faces the broker.")
    package var advertiseHost: String?

    @OptionGroup package var keys: KeyOptions

    @Flag(help: "Allow TCP beyond loopback without a key: neither encrypted nor authenticated.")
    package var insecure = false

    @Option(help: "Mebibytes this worker may use. Default: the machine's memory or its control group's limit.")
    package var memoryLimit: Int?

    @OptionGroup package var memory: SharedMemoryOptions

    @Option(help: .hidden) package var predecessorProcess: UInt32 = 0

    @Option(help: .hidden) package var predecessorEnd: String = ""

    @Option(help: "Seconds a stopping worker waits for its computation to reach the next step.")
    package var shutdownGrace: Int = 20

    package init() {}

    package func validate() throws {
        guard (1...64).contains(slots) else { throw ValidationError("--slots \(slots) is not between 1 and 64.") }
        if let memoryLimit, memoryLimit < 1 { throw ValidationError("--memory-limit \(memoryLimit) is below 1.") }
        guard (0...3600).contains(shutdownGrace) else {
            throw ValidationError("--shutdown-grace \(shutdownGrace) is not between 0 and 3600.")
        }
    }

    /// What the worker may use.
    package var memoryBudget: MemoryBudget { MemoryBudget(limit: memoryLimit.map { $0 << 20 }) }

    /// Runs a worker around `handler` until SIGTERM or SIGINT.
    ///
    /// - Parameters:
    ///   - settings: what else the line at start should tell, without secrets.
    ///   - cpus: what the process was bound to, if it was; status answers show it behind the worker's name.
    package func serve(
        _ handler: any StageHandler, settings: [String: String], cpus: CPUList? = nil, logger: Logger
    ) async throws {
        let runDirectory = try RunDirectory.resolve(runDirectory)
        let brokers = try BrokerAddress.parse(
            broker, fallback: .ipc(path: runDirectory.socketPath("broker.sock")), key: keys.key,
            brokerPublicKeys: keys.brokerPublicKey)
        let budget = memoryBudget
        var configuration = WorkerConfiguration(
            name: Self.shown(name ?? "\(handler.stage)@\(ProcessInfo.processInfo.hostName):\(getpid())", on: cpus),
            brokers: brokers,
            runDirectory: runDirectory, slots: slots, advertisedAddress: advertiseHost, dataPort: dataPort,
            insecure: insecure, outputBytes: budget.outputs,
            sharedMemoryBytes: memory.sharedMemory.bytes, shutdownGrace: .seconds(shutdownGrace))
        configuration.predecessor = (predecessorProcess, String(predecessorEnd.prefix(100)))
        var metadata: Logger.Metadata = [
            "version": "\(ServiceVersion.current)", "stage": "\(handler.stage)", "model": "\(handler.modelDigest)",
            "slots": "\(slots)", "run_directory": "\(runDirectory.path)", "numerics": "\(handler.numerics)",
            "memory_plan": "\(handler.memoryPlan)", "memory_limit": "\(MemoryPlan.readable(budget.limit))",
            "cpus": "\(UsableCPUs.current())", "shared_memory": "\(memory.sharedMemory)", "insecure": "\(insecure)",
        ]
        for (key, value) in settings { metadata[key] = "\(value)" }
        logger.info("starting", metadata: metadata)
        try await Lifecycle.run(
            [StageWorker(handler: handler, configuration: configuration, logger: logger)], logger: logger)
    }

    /// `denoiser-1 (CPUs 0-7)`; a list that would not fit into a name is counted.
    package static func shown(_ name: String, on cpus: CPUList?) -> String {
        guard let cpus else { return name }
        let full = "\(name) (CPUs \(cpus))"
        return full.utf8.count <= Limits.nameBytes ? full : "\(name) (\(cpus.count) CPUs)"
    }
}

/// The flags of stages that hold a network.
package struct ModelOptions: ParsableArguments {
    @Option(help: "The model: a folder in diffusers layout, the one with model_index.json.")
    package var model: String

    @Option(help: "Threads that compute. Default: one for each CPU this process may use.")
    package var threads: Int?

    @OptionGroup package var processors: CPUOptions

    package init() {}

    package func validate() throws {
        if let threads, !(1...1024).contains(threads) {
            throw ValidationError("--threads \(threads) is not between 1 and 1024.")
        }
    }

    /// Opens the folder; fails with `model_not_found` or `model_config_invalid`.
    package func folder() throws(Failure) -> ModelFolder { try ModelFolder(path: model) }

    /// Threads to compute with, as `CPUBackend` takes them: 0 for the CPUs this process may use.
    package var threadCount: Int { threads ?? 0 }
}
