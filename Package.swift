// swift-tools-version: 6.3
import PackageDescription

// One package, arrows pointing down only (docs/architecture.md; Tests/ArchitectureTests holds the rules).
//
// ZOETROPE_TARGETS="ComputeTests WireTests" narrows the manifest to those targets and what they need,
// so that one layer builds and tests alone, without the HTTP and SQLite packages (docs/development.md).

let swiftStrict: [SwiftSetting] = [
    .enableUpcomingFeature("ExistentialAny"),
    .enableUpcomingFeature("InternalImportsByDefault"),
    .enableUpcomingFeature("MemberImportVisibility"),
    .enableUpcomingFeature("InferIsolatedConformances"),
    .treatAllWarnings(as: .error),
]
let cStrict: [CSetting] = [
    .enableWarning("all"), .enableWarning("extra"), .treatAllWarnings(as: .error),
    .unsafeFlags(["-O3", "-fno-math-errno"]),
]

// MARK: Packages

let packages: [String: Package.Dependency] = [
    "swift-argument-parser": .package(url: "https://github.com/apple/swift-argument-parser", from: "1.8.2"),
    "swift-log": .package(url: "https://github.com/apple/swift-log", from: "1.16.2"),
    "swift-crypto": .package(url: "https://github.com/apple/swift-crypto", from: "4.5.2"),
    "swift-nio": .package(url: "https://github.com/apple/swift-nio", from: "2.101.2"),
    "swift-service-lifecycle": .package(
        url: "https://github.com/swift-server/swift-service-lifecycle", from: "2.13.0"),
    "hummingbird": .package(
        url: "https://github.com/hummingbird-project/hummingbird", from: "2.28.1", traits: []),
    "GRDB.swift": .package(url: "https://github.com/groue/GRDB.swift", from: "7.10.0"),
]
func product(_ name: String, _ package: String) -> Target.Dependency { .product(name: name, package: package) }
let argumentParser = product("ArgumentParser", "swift-argument-parser")
let logging = product("Logging", "swift-log")
let crypto = product("Crypto", "swift-crypto")
let nioCore = product("NIOCore", "swift-nio")
let serviceLifecycle = product("ServiceLifecycle", "swift-service-lifecycle")
let unixSignals = product("UnixSignals", "swift-service-lifecycle")
let hummingbird = product("Hummingbird", "hummingbird")
let hummingbirdTesting = product("HummingbirdTesting", "hummingbird")
let grdb = product("GRDB", "GRDB.swift")

// MARK: Target kinds

func unique(_ dependencies: [Target.Dependency]) -> [Target.Dependency] {
    var seen: Set<String> = []
    return dependencies.filter { seen.insert("\($0)").inserted }
}

func systemLibrary(_ name: String) -> Target { .systemLibrary(name: name, path: "Shared/\(name)") }

func cLibrary(_ name: String, _ dependencies: [Target.Dependency] = [], libraries: [String] = []) -> Target {
    .target(
        name: name, dependencies: dependencies, path: "Shared/\(name)", publicHeadersPath: "include",
        cSettings: cStrict, linkerSettings: libraries.map { .linkedLibrary($0) })
}

func shared(
    _ name: String, _ dependencies: [Target.Dependency], resources: [Resource]? = nil, exclude: [String] = []
) -> Target {
    .target(
        name: name, dependencies: dependencies, path: "Shared/\(name)", exclude: exclude, resources: resources,
        swiftSettings: swiftStrict)
}

/// A service is a testable library (`Services/X/Service`) and a thin executable (`Services/X/Main`).
func service(_ name: String, _ dependencies: [Target.Dependency]) -> [Target] {
    [
        .target(
            name: "\(name)Service", dependencies: dependencies + ["Failure"], path: "Services/\(name)/Service",
            swiftSettings: swiftStrict),
        .executableTarget(
            name: "\(name)Main",
            dependencies: unique(
                dependencies + [.byName(name: "\(name)Service"), "Runtime", "Failure", argumentParser]),
            path: "Services/\(name)/Main", swiftSettings: swiftStrict),
    ]
}

/// Fixtures and scripts beside the tests are read from the source tree, not bundled.
func tests(_ name: String, _ dependencies: [Target.Dependency], exclude: [String] = []) -> Target {
    .testTarget(
        name: "\(name)Tests", dependencies: unique(dependencies + ["TestSupport", "Failure"]),
        path: "Tests/\(name)Tests",
        exclude: exclude, swiftSettings: swiftStrict)
}

// MARK: Targets, lowest layer first

var targets: [Target] = [
    // C modules
    systemLibrary("CZeroMQ"), systemLibrary("CProtobufC"), systemLibrary("CFFmpeg"),
    cLibrary("CPlatform"),
    cLibrary("CWire", ["CProtobufC"]),
    cLibrary("CKernels"),

    // Values and process
    shared("Failure", []),
    shared("Tensor", ["Failure", "CKernels"]),
    shared("Runtime", ["Failure", "CPlatform", argumentParser, logging, serviceLifecycle, unixSignals]),

    // Bytes, sockets, records, arithmetic
    shared("Wire", ["Failure", "CWire", "CProtobufC", "CPlatform", "Tensor", crypto]),
    shared("Bus", ["Failure", "CZeroMQ", "CPlatform", "Wire", "Tensor", "Runtime", logging]),
    shared("Compute", ["Failure", "CKernels", "CPlatform", "Tensor", "Runtime"]),
    shared("Checkpoint", ["Failure", "Tensor", crypto]),
    shared("Work", ["Failure", "Wire", "Tensor"]),
    shared("Ledger", ["Failure", "Work", "Wire", "Runtime", grdb]),

    // Networks, samplers, text, media
    shared("Model", ["Failure", "Compute", "Checkpoint", "Tensor"]),
    shared("Diffusion", ["Failure", "Tensor", "Checkpoint"]),
    shared("Text", ["Failure"]),
    shared("Media", ["Failure", "CFFmpeg", "Tensor"]),
    shared("DemoModel", ["Failure"], resources: [.copy("cogvideox-demo")]),

    // What a user asks for, and what every worker shares
    shared("Request", ["Failure", "Checkpoint", "Diffusion", "Tensor", "Wire"]),
    shared(
        "Stage",
        [
            "Failure", "Bus", "Wire", "Work", "Tensor", "Runtime", "Request", "Checkpoint", "Compute", argumentParser,
            logging, serviceLifecycle,
        ]),

    .target(
        name: "TestSupport", dependencies: ["Tensor"], path: "Tests/TestSupport", swiftSettings: swiftStrict),
    .target(
        name: "CLostFsync", path: "Tests/LostFsync", publicHeadersPath: "include", cSettings: cStrict),
    .target(
        name: "Simulator", dependencies: ["Failure", "Tensor", "Wire", "Work"], path: "Tests/Simulator/World",
        swiftSettings: swiftStrict),

    tests("Tensor", ["Tensor"]),
    tests("Runtime", ["Runtime", argumentParser, logging]),
    tests("Wire", ["Wire", "CWire", "CPlatform", "Tensor"], exclude: ["Golden"]),
    tests("Bus", ["Bus", "CLostFsync", "CPlatform", "CZeroMQ", "Runtime", "Wire", "Tensor"]),
    tests("Compute", ["Compute", "CKernels", "Tensor", "Runtime"]),
    tests(
        "Checkpoint", ["Checkpoint", "Tensor", "DemoModel"],
        exclude: ["Fixtures", "make_sat_fixtures.py", "make_adapter_fixtures.py"]),
    tests("Work", ["Work", "Wire", "Tensor"]),
    tests("Simulator", ["Simulator", "Work"]),
    tests("Ledger", ["Ledger", "CLostFsync", "Work", "Wire", "Tensor"]),
    tests("Model", ["Model", "Compute", "Checkpoint", "Tensor", "Diffusion", "DemoModel"]),
    tests("Diffusion", ["Diffusion", "Checkpoint", "Tensor"], exclude: ["Fixtures"]),
    tests("Text", ["Text"], exclude: ["Fixtures"]),
    tests("Media", ["Media", "Model", "Tensor"], exclude: ["Fixtures"]),
    tests("Request", ["Request", "Checkpoint", "Diffusion", "Tensor", "Wire", "DemoModel"]),
    tests("Stage", ["Stage", "Bus", "Wire", "Tensor", "Runtime", argumentParser, logging, serviceLifecycle]),
    tests(
        "Worker",
        [
            "TextEncoderService", "DenoiserService", "VAEEncoderService", "VAEDecoderService", "Stage", "Model",
            "Request", "Bus", "Diffusion", "Compute", "Checkpoint", "Media", "Tensor", "DemoModel", "Wire",
        ]),
    tests("Broker", ["BrokerService", "Bus", "Ledger", "Runtime", "Wire", "Work", "Tensor", logging]),
    tests(
        "Gateway",
        [
            "GatewayService", "BrokerService", "Bus", "Wire", "Work", "Tensor", "Media", "Request", "Runtime",
            "Checkpoint", "DemoModel",
            hummingbird, hummingbirdTesting, nioCore, logging,
        ], exclude: ["openai_client_check.py"]),
    tests("PromptUpsampler", ["PromptUpsamplerService", "Stage", "Request", "Tensor"]),
    tests(
        "VideoMuxer",
        [
            "VideoMuxerService", "Stage", "Bus", "Request", "Diffusion", "Media", "Model", "Checkpoint", "DemoModel",
            "Tensor", "Wire",
        ]),
    tests(
        "CommandLine",
        ["CommandLineService", "Bus", "Wire", "Runtime", "Tensor", "Request", "Diffusion", argumentParser]),
    tests("Fuzz", ["FuzzTargets"]),
    tests("Architecture", []),
    tests(
        "EndToEnd", ["Tensor", "Checkpoint", "DemoModel", "Media"],
        exclude: ["compose.sh", "netns.sh", "fake_chat_server.py", "hold_threads.py"]),
]
targets += service("Broker", ["Bus", "Work", "Ledger", "Wire", "Runtime", logging, serviceLifecycle])
targets += service(
    "Gateway",
    [
        "Bus", "Wire", "Tensor", "Media", "Request", "Checkpoint", "Model", "DemoModel", "Runtime", hummingbird,
        nioCore, logging, serviceLifecycle,
    ])
targets += service("PromptUpsampler", ["Stage", "Media", "Request", "Tensor"])
targets += service("TextEncoder", ["Stage", "Model", "Text", "Compute", "Checkpoint", "Request", "Tensor", "Wire"])
targets += service(
    "Denoiser", ["Stage", "Model", "Diffusion", "Compute", "Checkpoint", "Media", "Request", "Tensor", "Wire"])
targets += service("VAEEncoder", ["Stage", "Model", "Diffusion", "Compute", "Checkpoint", "Request", "Tensor"])
targets += service("VAEDecoder", ["Stage", "Bus", "Model", "Compute", "Checkpoint", "Request", "Tensor"])
targets += service("VideoMuxer", ["Stage", "Media", "Model", "Checkpoint", "Request", "Tensor", "Runtime", "Wire"])
targets += service(
    "CommandLine",
    [
        "Bus", "Wire", "Request", "Checkpoint", "Compute", "DemoModel", "Diffusion", "Media", "Model", "Tensor",
        "Runtime", argumentParser,
    ])
targets.append(
    .executableTarget(
        name: "BenchMain",
        dependencies: [
            "Compute", "Model", "Diffusion", "Checkpoint", "DemoModel", "Failure", "Tensor", "Runtime", "Wire", "Work",
            argumentParser,
        ],
        path: "Tests/Benchmarks", exclude: ["peer"], swiftSettings: swiftStrict))

targets.append(
    .executableTarget(
        name: "BusBenchMain",
        dependencies: [
            "Bus", "CZeroMQ", "Ledger", "Work", "Wire", "Failure", "Tensor", "Runtime", argumentParser,
        ],
        path: "Tests/BusBenchmarks", swiftSettings: swiftStrict))

targets.append(
    .executableTarget(
        name: "KernelGuardMain", dependencies: ["CKernels"], path: "Tests/KernelGuard", exclude: ["instructions.txt"],
        cSettings: cStrict, linkerSettings: [.linkedLibrary("m")]))

// What is fed with hostile bytes. The executable needs libFuzzer's driver, which only Tests/fuzz.sh links.
targets.append(
    .target(
        name: "FuzzTargets",
        dependencies: [
            "Bus", "CZeroMQ", "CWire", "CProtobufC", "Wire", "Tensor", "Runtime", "Request", "Checkpoint", "DemoModel",
            "Failure",
        ], path: "Tests/Fuzz/Targets", swiftSettings: swiftStrict))
if Context.environment["ZOETROPE_FUZZ"] != nil {
    targets.append(
        .executableTarget(
            name: "FuzzMain", dependencies: ["FuzzTargets"], path: "Tests/Fuzz/Main", swiftSettings: swiftStrict))
}

targets.append(
    .executableTarget(
        name: "SimulatorMain", dependencies: ["Simulator", "Work"], path: "Tests/Simulator/Main",
        swiftSettings: swiftStrict))

var executables: [String: String] = [
    "zoetrope-broker": "BrokerMain", "zoetrope-gateway": "GatewayMain",
    "zoetrope-prompt-upsampler": "PromptUpsamplerMain", "zoetrope-text-encoder": "TextEncoderMain",
    "zoetrope-denoiser": "DenoiserMain", "zoetrope-vae-encoder": "VAEEncoderMain",
    "zoetrope-vae-decoder": "VAEDecoderMain",
    "zoetrope-video-muxer": "VideoMuxerMain", "zoetrope": "CommandLineMain", "zoetrope-bench": "BenchMain",
    "zoetrope-bus-bench": "BusBenchMain", "zoetrope-kernel-guard": "KernelGuardMain",
    "zoetrope-simulator": "SimulatorMain",
]

// MARK: Narrowing

func names(of dependencies: [Target.Dependency]) -> (targets: [String], packages: [String]) {
    var result: (targets: [String], packages: [String]) = ([], [])
    for dependency in dependencies {
        switch dependency {
        case .targetItem(let name, _), .byNameItem(let name, _): result.targets.append(name)
        case .productItem(_, let package, _, _): if let package { result.packages.append(package) }
        @unknown default: break
        }
    }
    return result
}

var usedPackages = Set(packages.keys)
if let wanted = Context.environment["ZOETROPE_TARGETS"] {
    var queue = wanted.split(separator: " ").map(String.init)
    var kept: Set<String> = []
    usedPackages = []
    while let name = queue.popLast() {
        guard kept.insert(name).inserted, let target = targets.first(where: { $0.name == name }) else { continue }
        let found = names(of: target.dependencies)
        queue += found.targets
        usedPackages.formUnion(found.packages)
    }
    targets = targets.filter { kept.contains($0.name) }
    executables = executables.filter { kept.contains($0.value) }
}

let package = Package(
    name: "zoetrope",
    products: executables.sorted { $0.key < $1.key }.map { .executable(name: $0.key, targets: [$0.value]) },
    dependencies: usedPackages.sorted().compactMap { packages[$0] },
    targets: targets,
    swiftLanguageModes: [.v6],
    cLanguageStandard: .c17,
    cxxLanguageStandard: .cxx17
)
