/// The house's rules, once (docs/architecture.md): a target may depend only on targets of a layer above it in this list.
enum Layers {
    static let modules: [[String]] = [
        ["CZeroMQ", "CProtobufC", "CFFmpeg", "CPlatform", "CWire", "CKernels"],
        ["Failure"],
        ["Tensor", "Runtime", "DemoModel"],
        ["Wire", "Compute", "Checkpoint"],
        ["Bus", "Work", "Model", "Diffusion", "Text", "Media"],
        ["Ledger", "Request"],
        ["Stage", "FuzzTargets"],
        services.map { "\($0)Service" },
        services.map { "\($0)Main" } + ["BenchMain", "BusBenchMain", "KernelGuardMain", "SimulatorMain"],
    ]

    /// Libraries of the tests: no product depends on them, so they have no layer.
    static let testing: Set<String> = ["TestSupport", "Simulator", "CLostFsync"]

    static let services = [
        "Broker", "Gateway", "PromptUpsampler", "TextEncoder", "Denoiser", "VAEEncoder", "VAEDecoder", "VideoMuxer",
        "CommandLine",
    ]

    /// Arrows inside one layer: a generated C module on the C library it is generated for.
    static let sideways = ["CWire": ["CProtobufC"]]

    /// Who alone may see what. Tests of a module may see what the module sees.
    static let only: [String: Set<String>] = [
        "CZeroMQ": ["Bus", "BusBenchMain", "FuzzTargets"],
        "CWire": ["Wire", "FuzzTargets"],
        "CProtobufC": ["Wire", "CWire", "FuzzTargets"],
        "CFFmpeg": ["Media"],
        "CKernels": ["Compute", "Tensor", "KernelGuardMain"],
        "CPlatform": ["Runtime", "Wire", "Bus", "Compute"],
        "GRDB": ["Ledger"],
        "Hummingbird": ["GatewayService", "GatewayMain"],
        "NIOCore": ["GatewayService", "GatewayMain"],
    ]

    /// C headers that only one folder of `Shared` may include.
    static let headers: [(prefix: String, folder: String)] = [
        ("zmq", "CZeroMQ"), ("protobuf-c", "CProtobufC"), ("libav", "CFFmpeg"), ("libsw", "CFFmpeg"),
        ("cblas", "none"), ("openblas", "none"), ("dnnl", "none"), ("sqlite3", "none"),
    ]

    /// The tests that start more than one service in their process.
    static let crossingTests: [String: Set<String>] = [
        "GatewayTests": ["GatewayService", "BrokerService"],
        "WorkerTests": ["TextEncoderService", "DenoiserService", "VAEEncoderService", "VAEDecoderService"],
    ]

    /// Modules of the toolchain, which need no declaration.
    static let toolchain: Set<String> = [
        "Dispatch", "Foundation", "FoundationEssentials", "FoundationNetworking", "Glibc", "Musl", "Synchronization",
        "Testing",
    ]

    static func layer(of name: String) -> Int? { modules.firstIndex { $0.contains(name) } }
}
