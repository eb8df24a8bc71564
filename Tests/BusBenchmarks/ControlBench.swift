import Bus
import Failure
import Foundation
import Ledger
import Runtime
import Wire
import Work

/// Round trips of a client through a broker of its own: what is answered from memory, and what is on disk first.
struct ControlBench {
    let folder: String

    func run() async throws {
        let directory = try RunDirectory(path: "/tmp/zoetrope-bench-\(getpid())-run")
        defer { try? FileManager.default.removeItem(atPath: directory.path) }
        let executable = URL(fileURLWithPath: CommandLine.arguments[0]).deletingLastPathComponent()
            .appendingPathComponent("zoetrope-broker").path
        let broker = try Child(
            [
                "--run-directory", directory.path, "--data-directory", folder + "/broker", "--log-level", "warning",
            ], executable: executable)
        _ = try broker.line()
        let loop = try BusLoop(name: "bench-control")
        let client = try await BrokerClient(
            loop: loop, endpoint: .ipc(path: directory.socketPath("broker.sock")), runDirectory: directory)
        var queries: [Double] = []
        for _ in 0..<5000 { queries.append(try await Numbers.seconds { _ = try await client.cluster() }) }
        line("request answered from memory (CLUSTER_QUERY)", queries)
        var submits: [Double] = []
        for number in 0..<300 {
            submits.append(try await Numbers.seconds { _ = try await client.submit(Self.submit("one-\(number)")) })
        }
        line("request answered when it is on disk (SUBMIT)", submits)
        // Fewer than one tenant may have, with those before.
        let count = 640
        let seconds = try await Numbers.seconds {
            try await withThrowingTaskGroup(of: Void.self) { group in
                for worker in 0..<64 {
                    group.addTask {
                        for number in stride(from: worker, to: count, by: 64) {
                            _ = try await client.submit(Self.submit("many-\(number)"))
                        }
                    }
                }
                try await group.waitForAll()
            }
        }
        print(String(format: "SUBMITs of 64 clients at once: %.0f a second", Double(count) / seconds))
        await client.close()
        await loop.shutdown()
        withExtendedLifetime(broker) {}
    }

    private func line(_ name: String, _ samples: [Double]) {
        print(
            name
                + String(
                    format: ": p50 %.3f ms, p99 %.3f ms (%d)", Numbers.quantile(samples, 0.5) * 1e3,
                    Numbers.quantile(samples, 0.99) * 1e3, samples.count))
    }

    /// A job that no worker of this broker can do.
    private static func submit(_ key: String) -> Submit {
        Submit(
            idempotencyKey: key, requestDigest: Digest.of(Array(key.utf8)), tenant: "bench", priority: 0,
            specification: "{}", tasks: [task])
    }

    static let task = TaskSpecification(
        name: "denoise", stage: "denoiser", model: "none", parameters: "{}", inputs: [], durableOutputs: true)
}

/// Commits of the broker's ledger, flushed one by one and in groups.
struct LedgerBench {
    let folder: String

    func run() async throws {
        let ledger = try Ledger(directory: folder + "/ledger", compactionThreshold: .max)
        let durability = try ledger.durability()
        var number = 0
        func entries(_ count: Int) -> [LedgerEntry] {
            (0..<count).map { _ in
                number += 1
                return .leaseGranted(
                    LeaseGrant(
                        lease: Lease(task: TaskID(job: "video_\(number)", name: "denoise"), fence: UInt64(number)),
                        worker: "denoiser-1", session: .random(), numerics: "bench", unixMilliseconds: 1))
            }
        }
        print("ledger: synchronous=\(durability.synchronous), \(durability.journalMode)")
        for group in [1, 10, 100] {
            var samples: [Double] = []
            for _ in 0..<(group == 1 ? 300 : 100) {
                let batch = entries(group)
                samples.append(try await Numbers.seconds { try await ledger.commit(batch) })
            }
            let total = samples.reduce(0, +)
            print(
                String(
                    format: "%d entries a commit: %.0f commits/s, %.0f entries/s, p50 %.2f ms, p99 %.2f ms", group,
                    Double(samples.count) / total, Double(samples.count * group) / total,
                    Numbers.quantile(samples, 0.5) * 1e3, Numbers.quantile(samples, 0.99) * 1e3))
        }
        try ledger.close()
    }
}
