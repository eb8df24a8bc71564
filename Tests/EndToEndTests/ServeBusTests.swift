import Foundation
import Glibc
import Testing

extension EndToEnd {
    @Suite("The bus of zoetrope serve")
    struct ServeBusTests {
        @Test(
            "serve lets a worker of another machine in over TCP, with keys that it makes itself",
            .timeLimit(.minutes(2)))
        func serveWithKeys() async throws {
            let endpoint = "tcp://127.0.0.1:\(try freePort())"
            try await withCluster(options: ["--bus-listen", endpoint]) { cluster in
                let folder = try TemporaryFolder()
                let keys = cluster.folder.file("data/keys")
                for name in ["broker.key", "local-workers.key", "authorized-keys"] {
                    let mode = try FileManager.default.attributesOfItem(atPath: "\(keys)/\(name)")[.posixPermissions]
                    #expect(mode as? Int == 0o600, "\(name)")
                }
                #expect(cluster.log.contains("--broker \(endpoint) "), "the invitation")
                let made = try await run("zoetrope", ["keys", "new", "gpu-2", "--directory", folder.path], in: folder)
                try #require(made.status == 0, "\(made.everything)")
                let admitted = try await run(
                    "zoetrope",
                    ["keys", "authorize", "gpu-2", folder.file("gpu-2.pub"), "--role", "worker", "--directory", keys],
                    in: folder)
                try #require(admitted.status == 0, "\(admitted.everything)")
                let model = URL(fileURLWithPath: try Executables.path("zoetrope")).deletingLastPathComponent()
                    .appendingPathComponent("zoetrope_DemoModel.resources/cogvideox-demo").path
                let guest = try Subprocess(
                    Executables.path("zoetrope-denoiser"),
                    [
                        "--broker", endpoint, "--key", folder.file("gpu-2.key"), "--broker-public-key",
                        "\(keys)/broker.pub", "--model", model, "--name", "guest", "--run-directory",
                        folder.file("run"),
                    ], in: folder, name: "guest")
                defer { guest.send(SIGKILL) }
                let server = ["--server", cluster.server]
                let started = ContinuousClock.now
                while try await !cluster.request("GET", "/v1/workers").text.contains("\"guest\"") {
                    try #require(ContinuousClock.now - started < .seconds(60), "\(guest.errors)")
                    try await Task.sleep(for: .milliseconds(50))
                }
                // With this machine's own denoiser gone, the guest makes the latents.
                let drained = try await run("zoetrope", ["drain", "denoiser-1"] + server, in: folder)
                #expect(drained.status == 0, "\(drained.everything)")
                let id = try await cluster.submit(CrashTests.longer).id
                let video = try await cluster.wait(id) { $0.isTerminal }
                #expect(video.status == "completed" && video.stage("denoiser")?.worker == "guest", "\(video)")
            }
        }

        @Test("serve refuses a bus address that tells others nothing", .timeLimit(.minutes(1)))
        func serveWithoutAddress() async throws {
            let folder = try TemporaryFolder()
            for (options, code) in [
                (["--bus-listen", "tcp://0.0.0.0:7710"], "bus_address_unknown"),
                (["--bus-listen", "ipc:///tmp/x.sock"], "bad_endpoint"),
                (["--bus-listen", "tcp://127.0.0.1:0"], "bad_endpoint"),
            ] {
                let refused = try await run(
                    "zoetrope",
                    ["serve", "--run-directory", folder.file("run"), "--data-directory", folder.file("data")] + options,
                    in: folder)
                #expect(refused.status == 1 && refused.errors.contains(code), "\(refused.everything)")
            }
        }

        @Test(
            "another user of the machine reaches no socket of a cluster, and a socket of its own folder hangs up on it",
            .enabled(
                if: geteuid() == 0 && Executables.system("setpriv") != nil
                    && FileManager.default.isExecutableFile(atPath: "/usr/bin/python3")),
            .timeLimit(.minutes(1)))
        func otherUsers() async throws {
            let knock = """
                import socket, sys
                peer = socket.socket(socket.AF_UNIX)
                peer.settimeout(10)
                try:
                    peer.connect(sys.argv[1])
                    print("greeted" if peer.recv(10) else "hung up")
                except PermissionError:
                    print("denied")
                except ConnectionResetError:
                    print("hung up")
                """
            try await withCluster { cluster in
                let socket = cluster.folder.file("run/broker.sock")
                let modes = [try Self.mode(cluster.folder.file("run")), try Self.mode(socket)]
                #expect(modes == [0o700, 0o600])
                #expect(try await Self.knocked(knock, socket, as: 0, in: cluster.folder) == "greeted")
                #expect(try await Self.knocked(knock, socket, as: 65534, in: cluster.folder) == "denied")
                // Even where an operator has opened folder and socket, the peer's user decides.
                chmod(cluster.folder.file("run"), 0o755)
                chmod(socket, 0o666)
                #expect(try await Self.knocked(knock, socket, as: 65534, in: cluster.folder) == "hung up")
                #expect(try await Self.knocked(knock, socket, as: 0, in: cluster.folder) == "greeted")
            }
        }

        private static func mode(_ path: String) throws -> Int? {
            try FileManager.default.attributesOfItem(atPath: path)[.posixPermissions] as? Int
        }

        /// What a Python program that knocks at the socket says when it runs as this user.
        private static func knocked(
            _ program: String, _ socket: String, as user: Int, in folder: TemporaryFolder
        ) async throws -> String {
            // Root's own python may lie where another user may not look.
            let python = "/usr/bin/python3"
            let result = try await Subprocess(
                try #require(Executables.system("setpriv")),
                ["--reuid", "\(user)", "--clear-groups", python, "-c", program, socket], in: folder, name: "knock"
            ).result(timeout: .seconds(20))
            return result.output.trimmingCharacters(in: .whitespacesAndNewlines)
        }
    }
}
