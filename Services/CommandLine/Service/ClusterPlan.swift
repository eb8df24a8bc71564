package import Runtime

/// Which processes make a cluster on one machine, and with which arguments.
package struct ClusterPlan: Sendable {
    /// One child process.
    package struct Member: Sendable, Hashable {
        /// Unique name: `broker`, `broker-2`, `gateway`, `denoiser-2`.
        package var name: String
        /// File name of the executable.
        package var executable: String
        package var arguments: [String]

        /// Neither a broker nor the gateway.
        package var isWorker: Bool { executable != "zoetrope-broker" && executable != "zoetrope-gateway" }
    }

    package var model: String
    package var runDirectory: String
    package var dataDirectory: String
    package var gateway: ListenAddress
    package var leaseSeconds: Int?
    package var threads: Int?
    /// What the workers run on; nil leaves it to the system.
    package var cpus: CPUChoice?
    /// Workers a stage; stages not named have one.
    package var workers: [String: Int] = [:]
    /// Extra arguments of the prompt upsampler; nil leaves the stage out.
    package var upsamplerArguments: [String]?
    /// What broker and workers share; nil leaves it to them.
    package var sharedMemory: SharedMemorySize?
    package var logLevel = "info"
    package var logFormat = "text"
    package var insecure = false
    /// Brokers, each a cell of its own; every worker serves them all.
    package var cells = 1
    /// Lets workers of other machines in, where there is one broker; nil keeps the bus on this machine's sockets.
    package var bus: SecureBus?
    /// Whether text features are kept beside the ledger for later prompts.
    package var keepsEmbeddings = false
    /// Folder of the adapters that requests may name; nil for none.
    package var adapters: String?

    /// Less than the time the supervisor gives a process to end.
    private static let workerArguments = ["--shutdown-grace", "8"]

    /// Stages that a job passes, in order; the VAE encoder's only those that begin with a picture or a clip.
    package static let stages = ["text-encoder", "vae-encoder", "denoiser", "vae-decoder", "video-muxer"]

    package init(model: String, runDirectory: String, dataDirectory: String, gateway: ListenAddress) {
        self.model = model
        self.runDirectory = runDirectory
        self.dataDirectory = dataDirectory
        self.gateway = gateway
    }

    package var server: String { "http://\(gateway)" }

    /// Workers that there will be of each stage.
    package var workerCounts: [String: Int] {
        var counts = Dictionary(uniqueKeysWithValues: Self.stages.map { ($0, max(1, workers[$0] ?? 1)) })
        if upsamplerArguments != nil { counts["prompt-upsampler"] = 1 }
        return counts
    }

    /// Brokers: one as ever, or `cell-1`, `cell-2` and so on with sockets and folders of their own.
    private func brokers(_ common: [String], dataPort: [String]) -> [Member] {
        var shared = common + holding + ["--beat-milliseconds", "250"]
        if let leaseSeconds { shared += ["--lease-seconds", String(leaseSeconds)] }
        guard cells > 1 else {
            shared += ["--data-directory", dataDirectory]
            if let bus {
                shared += ["--listen", "\(bus.endpoint)", "--key", bus.brokerKey]
                shared += ["--advertise-host", bus.advertiseHost] + dataPort
            }
            return [Member(name: "broker", executable: "zoetrope-broker", arguments: shared)]
        }
        return (1...cells).map { [shared] number in
            let own = [
                "--cell", "cell-\(number)", "--socket-name", "broker-\(number)", "--data-directory",
                "\(dataDirectory)/cell-\(number)",
            ]
            return Member(name: "broker-\(number)", executable: "zoetrope-broker", arguments: shared + own)
        }
    }

    /// What tells brokers and workers how much memory they lend.
    private var holding: [String] { sharedMemory.map { ["--shared-memory", $0.description] } ?? [] }

    /// What tells gateway and workers of several brokers.
    private var brokerArguments: [String] {
        guard cells > 1 else { return [] }
        return (1...cells).flatMap { ["--broker", "cell-\($0)=ipc://\(runDirectory)/broker-\($0).sock"] }
    }

    /// Brokers first, then the gateway, then the workers stage by stage.
    package var members: [Member] {
        let common = ["--run-directory", runDirectory, "--log-level", logLevel, "--log-format", logFormat]
        var dataPorts = (bus?.firstDataPort).map { Int($0)... }?.makeIterator()
        func dataPort() -> [String] { dataPorts?.next().map { ["--data-port", String($0)] } ?? [] }
        var members = brokers(common, dataPort: dataPort())
        var frontDoor = common + brokerArguments + ["--listen", "\(gateway)", "--model", model]
        if insecure { frontDoor.append("--insecure") }
        frontDoor += adapterArguments
        members.append(Member(name: "gateway", executable: "zoetrope-gateway", arguments: frontDoor))
        for stage in Self.stages {
            for number in 1...(workerCounts[stage] ?? 1) {
                var arguments =
                    common + holding + brokerArguments + ["--name", "\(stage)-\(number)"] + Self.workerArguments
                arguments += busArguments + dataPort()
                if stage != "video-muxer" { arguments += ["--model", model] }
                if stage == "denoiser" { arguments += adapterArguments }
                if stage == "text-encoder", keepsEmbeddings {
                    arguments += ["--embedding-cache", dataDirectory + "/embeddings"]
                }
                if let cpus = cpus?.share(of: number - 1, among: workerCounts[stage] ?? 1) {
                    arguments += ["--cpus", cpus.description]
                }
                if let threads { arguments += ["--threads", String(threads)] }
                members.append(
                    Member(name: "\(stage)-\(number)", executable: "zoetrope-\(stage)", arguments: arguments))
            }
        }
        if let upsamplerArguments {
            members.append(
                Member(
                    name: "prompt-upsampler-1", executable: "zoetrope-prompt-upsampler",
                    arguments: common + brokerArguments + ["--name", "prompt-upsampler-1"] + Self.workerArguments
                        + busArguments + dataPort() + upsamplerArguments))
        }
        return members
    }

    private var adapterArguments: [String] { adapters.map { ["--adapters", $0] } ?? [] }

    /// How workers reach the broker, where that is not by its local socket, and others reach them.
    private var busArguments: [String] {
        guard let bus else { return [] }
        return [
            "--broker", "\(bus.connectEndpoint)", "--key", bus.localKey, "--broker-public-key", bus.brokerPublicKey,
            "--advertise-host", bus.advertiseHost,
        ]
    }
}
