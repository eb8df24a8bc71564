import Foundation
import Testing

#if canImport(FoundationNetworking)
import FoundationNetworking
#endif

extension EndToEnd {
    /// A cluster whose processes know each other by their keys and meet over TCP only: each has a run directory of its
    /// own, so that nothing can take the short way over ipc.
    @Suite("A cluster with keys")
    struct KeysTests {
        private static let stages = ["text-encoder", "denoiser", "vae-decoder", "video-muxer"]

        @Test(
            "the demo video is made behind CURVE with the same frames; strangers stay out; a revoked worker is gone",
            .timeLimit(.minutes(4)))
        func demoVideo() async throws {
            let cluster = try await KeyedCluster(stages: Self.stages)
            defer { cluster.kill() }
            try await cluster.wait("every stage has a worker") { $0.contains("\"status\":\"ok\"") }

            // Not authorised: turned away, and told what to do.
            let stranger = try await cluster.start("denoiser", key: "stranger", isAuthorized: false)
            let video = try await cluster.video()
            let together = cluster.folder.file("together.mkv")
            try await generate(
                [EndToEnd.prompt] + EndToEnd.small + ["--output", together], in: cluster.folder)
            let frames = try await MediaFile.frameHashes(video, in: cluster.folder)
            #expect(frames.count == 9)
            #expect(try await frames == MediaFile.frameHashes(together, in: cluster.folder))
            while !stranger.errors.contains("does not admit our key") {
                try #require(stranger.process.isRunning, "\(stranger.errors)")
                try await Task.sleep(for: .milliseconds(50))
            }
            #expect(try await cluster.health().contains(#""denoiser":{"busy":0,"slots":1,"workers":1}"#))

            try await administration(of: cluster)

            let revoked = try await cluster.keys("revoke", "denoiser")
            #expect(revoked.status == 0, "\(revoked.everything)")
            try await cluster.wait("the denoiser is gone") { $0.contains("\"missing\":[\"denoiser\",\"vae-decoder\"]") }
        }

        /// It takes the gateway's token, and a gateway whose own key may administrate.
        private func administration(of cluster: KeyedCluster) async throws {
            let none = try await cluster.command("dead", "list")
            #expect(none.status == 1 && none.errors.contains("admin_token_required"), "\(none.everything)")
            let token = ["--admin-token-file", cluster.folder.file("keys/admin.token")]
            let forbidden = try await cluster.command(["drain", "vae-decoder"] + token)
            #expect(forbidden.status == 1 && forbidden.errors.contains("role admin"), "\(forbidden.everything)")
            let raised = try await cluster.keys("authorize", "gateway", "--role", "admin")
            #expect(raised.status == 0, "\(raised.everything)")
            let started = ContinuousClock.now
            var dead = try await cluster.command(["dead", "list"] + token)
            // The broker looks at the list once a second.
            while dead.status != 0 {
                try #require(ContinuousClock.now - started < .seconds(30), "\(dead.everything)")
                try await Task.sleep(for: .milliseconds(100))
                dead = try await cluster.command(["dead", "list"] + token)
            }
            let drained = try await cluster.command(["drain", "vae-decoder"] + token)
            #expect(drained.status == 0 && drained.output.contains("vae-decoder is gone"), "\(drained.everything)")
            let metrics = try await cluster.text("/metrics")
            #expect(metrics.contains("zoetrope_refusals_total{reason=\"role\"} "), "\(metrics)")
            #expect(!metrics.contains("zoetrope_refusals_total{reason=\"key\"} 0\n"), "the stranger was not counted")
            #expect(!metrics.contains("zoetrope_refusals_total{reason=\"role\"} 0\n"), "the drain was not counted")
        }

        @Test("decoders share a decode behind CURVE and over TCP only", .timeLimit(.minutes(4)))
        func sharedDecode() async throws {
            let cluster = try await KeyedCluster(stages: Self.stages)
            defer { cluster.kill() }
            try await cluster.join("vae-decoder", as: "vae-decoder-2")
            try await cluster.wait("there are two decoders") {
                $0.contains(#""vae-decoder":{"busy":0,"slots":2,"workers":2}"#) && $0.contains(#""status":"ok""#)
            }
            let alone = try await cluster.video(["--decode-workers", "1"], as: "alone.mkv")
            let together = try await cluster.video(["--decode-workers", "2"], as: "together.mkv")
            #expect(try await cluster.text("/v1/videos").contains("decoded by 2 decoders"))
            // The last bits of sums differ, hence a level of a byte here and there.
            #expect(try await MediaFile.decibels(alone, together, in: cluster.folder) >= 60)

            // Long enough for the muxer to come while it is decoded.
            _ = try await cluster.video(
                ["--decode-workers", "1", "--width", "256", "--height", "256"], as: "followed.mkv")
            #expect(cluster.log.contains("frames were encoded while they were decoded"), "\(cluster.log.suffix(6000))")
        }

        @Test(
            "keys new, authorize, list and revoke do what they say and refuse what they must", .timeLimit(.minutes(1)))
        func commands() async throws {
            let folder = try TemporaryFolder()
            let place = ["--directory", folder.file("keys")]
            func keys(_ arguments: String...) async throws -> CommandResult {
                try await run("zoetrope", ["keys"] + arguments + place, in: folder)
            }
            let made = try await keys("new", "gpu-1")
            #expect(made.status == 0, "\(made.everything)")
            let mode = try FileManager.default.attributesOfItem(atPath: folder.file("keys/gpu-1.key"))[
                .posixPermissions]
            #expect(mode as? Int == 0o600)
            #expect(try await keys("new", "gpu-1").errors.contains("key_file_exists"))
            #expect(try await keys("authorize", "gpu-1", "--role", "worker", "--stages", "denoiser").status == 0)
            let list = try await keys("list")
            let publicKey = try String(contentsOfFile: folder.file("keys/gpu-1.pub"), encoding: .utf8)
                .trimmingCharacters(in: .whitespacesAndNewlines)
            #expect(list.output.contains("gpu-1  worker (denoiser)  \(publicKey)"), "\(list.everything)")
            #expect(try await keys("authorize", "gpu-1", "--role", "boss").status == 2)
            #expect(try await keys("revoke", "gpu-2").errors.contains("key_unknown"))
            #expect(try await keys("revoke", "gpu-1").status == 0)
            #expect(try await keys("list").output.isEmpty)
        }
    }
}

/// Services started one by one, each with a key and a run directory of its own.
private final class KeyedCluster: @unchecked Sendable {
    // Used by one test, one call after the other.
    let folder: TemporaryFolder
    private let broker: String
    private let server: String
    private var processes: [Subprocess] = []

    init(stages: [String]) async throws {
        folder = try TemporaryFolder()
        broker = "tcp://127.0.0.1:\(try freePort())"
        let address = "127.0.0.1:\(try freePort())"
        server = "http://\(address)"
        try await make("broker")
        try await authorize("gateway", role: "gateway")
        let token = try await keys("token", "admin")
        try #require(token.status == 0, "\(token.everything)")
        for stage in stages { try await authorize(stage, role: "worker", stage: stage) }
        try spawn(
            "broker",
            [
                "--listen", broker, "--data-directory", folder.file("data"), "--key", folder.file("keys/broker.key"),
                "--beat-milliseconds", "200", "--run-directory", folder.file("run-broker"),
            ])
        // The environment is as good as flags.
        try spawn(
            "gateway", ["--listen", address, "--broker", broker, "--run-directory", folder.file("run-gateway")],
            environment: [
                "ZOETROPE_KEY": folder.file("keys/gateway.key"),
                "ZOETROPE_BROKER_PUBLIC_KEY": folder.file("keys/broker.pub"),
                "ZOETROPE_ADMIN_TOKEN_FILE": folder.file("keys/admin.token"),
            ])
        for stage in stages { _ = try await start(stage, key: stage, isAuthorized: true) }
    }

    /// One more worker of a stage, with a key of its own.
    func join(_ stage: String, as name: String) async throws {
        try await authorize(name, role: "worker", stage: stage)
        _ = try await start(stage, key: name, isAuthorized: true)
    }

    func start(_ stage: String, key: String, isAuthorized: Bool) async throws -> Subprocess {
        if !isAuthorized { try await make(key) }
        var arguments = [
            "--broker", broker, "--key", folder.file("keys/\(key).key"), "--broker-public-key",
            folder.file("keys/broker.pub"), "--name", key, "--run-directory", folder.file("run-\(key)"),
        ]
        let model = URL(fileURLWithPath: try Executables.path("zoetrope")).deletingLastPathComponent()
            .appendingPathComponent("zoetrope_DemoModel.resources/cogvideox-demo").path
        if stage != "video-muxer" { arguments += ["--model", model] }
        return try spawn(stage, arguments, name: key)
    }

    func keys(_ arguments: String...) async throws -> CommandResult {
        try await run("zoetrope", ["keys"] + arguments + ["--directory", folder.file("keys")], in: folder)
    }

    /// A command of `zoetrope` at this cluster's gateway.
    func command(_ arguments: String...) async throws -> CommandResult { try await command(arguments) }

    func command(_ arguments: [String]) async throws -> CommandResult {
        try await run("zoetrope", arguments + ["--server", server], in: folder)
    }

    func health() async throws -> String { try await text("/healthz") }

    func text(_ path: String) async throws -> String {
        let (data, _) = try await URLSession.shared.data(from: try #require(URL(string: server + path)))
        return String(decoding: data, as: UTF8.self)
    }

    func wait(_ what: Comment, until condition: (String) -> Bool) async throws {
        let started = ContinuousClock.now
        while true {
            let health = (try? await health()) ?? "no answer"
            if condition(health) { return }
            try #require(
                ContinuousClock.now - started < .seconds(60), "\(what): \(health)\n\(log.suffix(6000))")
            try await Task.sleep(for: .milliseconds(50))
        }
    }

    /// Makes a short video and fetches it.
    func video(_ options: [String] = [], as name: String = "apart.mkv") async throws -> String {
        let path = folder.file(name)
        let submitted = try await run(
            "zoetrope",
            ["submit", EndToEnd.prompt, "--container", "mkv", "--server", server] + EndToEnd.small + options,
            in: folder)
        try #require(submitted.status == 0, "\(submitted.everything)")
        let id = submitted.output.trimmingCharacters(in: .whitespacesAndNewlines)
        let watched = try await run("zoetrope", ["watch", id, "--server", server], in: folder)
        try #require(watched.status == 0, "\(watched.everything)\n\(log.suffix(6000))")
        let fetched = try await run("zoetrope", ["fetch", id, "--server", server, "--output", path], in: folder)
        try #require(fetched.status == 0, "\(fetched.everything)")
        return path
    }

    /// What all processes have said.
    var log: String { processes.map { $0.output + $0.errors }.joined(separator: "\n") }

    func kill() {
        for process in processes { process.send(SIGKILL) }
    }

    private func make(_ name: String) async throws {
        let made = try await keys("new", name)
        try #require(made.status == 0, "\(made.everything)")
    }

    private func authorize(_ name: String, role: String, stage: String? = nil) async throws {
        try await make(name)
        let stages = stage.map { ["--stages", $0] } ?? []
        let done = try await run(
            "zoetrope", ["keys", "authorize", name, "--role", role, "--directory", folder.file("keys")] + stages,
            in: folder)
        try #require(done.status == 0, "\(done.everything)")
    }

    @discardableResult
    private func spawn(
        _ service: String, _ arguments: [String], name: String? = nil, environment: [String: String] = [:]
    ) throws -> Subprocess {
        let process = try Subprocess(
            Executables.path("zoetrope-\(service)"), arguments, in: folder, name: name ?? service,
            environment: environment)
        processes.append(process)
        return process
    }
}
