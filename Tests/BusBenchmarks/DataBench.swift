import Bus
import Failure
import Foundation
import Runtime
import Tensor
import Wire

/// Fetches the same blobs over every way in turn.
struct DataBench {
    let sizes: [Int]
    let rounds: Int

    /// A holder in a process of its own and a client of ours to it.
    private final class Way {
        let name: String
        let child: Child
        let client: DataClient
        let location: Location

        init(_ name: String, _ loop: BusLoop, sizes: [Int]) async throws {
            self.name = name
            let folder = "/tmp/zoetrope-bench-\(getpid())-\(name)"
            let directory = try RunDirectory(path: folder)
            let identity = try KeyPair.generate()
            var order = "\(name) \(folder)"
            if name == "curve" { order += " \(identity.publicKey)" }
            child = try Child(["--hold", order] + sizes.flatMap { ["--sizes", "\($0 >> 10)"] })
            let words = try child.line().split(separator: " ").map(String.init)
            var access: DataAccess?
            switch name {
            case "tcp": location = .tcp(address: "127.0.0.1", port: UInt16(words[0]) ?? 0)
            case "curve":
                guard words.count > 1, let key = PublicKey(text: words[1]) else { throw Failure("bench_key", name) }
                location = .curve(address: "127.0.0.1", port: UInt16(words[0]) ?? 0, key: key)
                let tickets = TicketKey.master(secret: BlobHolder.secret).derived(for: key)
                access = DataAccess(identity: identity) { (request) throws(Failure) in
                    tickets.issue(request.terms, fence: 1, expiresAtUnixMilliseconds: 1_000_000_000)
                }
            default: location = .ipc(host: directory.hostIdentity, socket: words[0])
            }
            client = DataClient(
                loop: loop, session: .random(), runDirectory: directory, access: access,
                sharesMemory: name == "memory")
        }

        deinit { try? FileManager.default.removeItem(atPath: "/tmp/zoetrope-bench-\(getpid())-\(name)") }
    }

    private struct Result {
        var seconds: [Int: [Double]] = [:]
        /// Of both processes, over all rounds.
        var processor: [Int: Double] = [:]
    }

    func run() async throws {
        let loop = try BusLoop(name: "bench")
        let names = ["memory", "ipc", "tcp", "curve"]
        var ways: [Way] = []
        for name in names { ways.append(try await Way(name, loop, sizes: sizes)) }
        let folder = "/tmp/zoetrope-bench-\(getpid())-bare"
        try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(atPath: folder) }
        let bare = try ["ipc", "tcp", "curve"].map { ($0, try BareParent($0, directory: folder)) }
        var results: [String: Result] = [:]
        for size in sizes {
            let blob = BlobHolder.blob(size)
            let digest = DataClient.digest(of: blob)
            for round in 0...rounds {
                for way in ways {
                    let ref = TensorRef(digest: digest, dtype: .uint8, shape: [size], locations: [way.location])
                    try await time("\(way.name)", size, round, &results, { way.child.processorSeconds }) {
                        _ = try await way.client.fetch(ref, timeout: .seconds(60))
                    }
                }
                for (name, peer) in bare {
                    try await time("bare \(name)", size, round, &results, { peer.processorSeconds }) {
                        try peer.move(size)
                    }
                }
                try await time("SHA-256", size, round, &results, { 0 }) { _ = DataClient.digest(of: blob) }
            }
        }
        guard let memory = ways.first?.client.fetched, memory.socketBlobs == 0 else {
            throw Failure("bench_no_memory", "blobs that were to come through shared memory came over the socket")
        }
        report(results, names + bare.map { "bare \($0.0)" } + ["SHA-256"])
        for way in ways { await way.client.close() }
        await loop.shutdown()
    }

    /// One move; the first of a size is not counted.
    private func time(
        _ name: String, _ size: Int, _ round: Int, _ results: inout [String: Result], _ child: () -> Double,
        _ body: () async throws -> Void
    ) async throws {
        let before = Self.ownSeconds + child()
        // Small blobs are moved several times: a clock tick is longer than they take.
        let repeats = max(1, (4 << 20) / size)
        let seconds = try await Numbers.seconds { for _ in 0..<repeats { try await body() } } / Double(repeats)
        guard round > 0 else { return }
        results[name, default: Result()].seconds[size, default: []].append(seconds)
        results[name, default: Result()].processor[size, default: 0] +=
            (Self.ownSeconds + child() - before)
            / Double(repeats)
    }

    private static var ownSeconds: Double {
        var usage = rusage()
        getrusage(__rusage_who_t(RUSAGE_SELF.rawValue), &usage)
        func seconds(_ time: timeval) -> Double { Double(time.tv_sec) + Double(time.tv_usec) * 1e-6 }
        return seconds(usage.ru_utime) + seconds(usage.ru_stime)
    }

    private func report(_ results: [String: Result], _ names: [String]) {
        print("GB/s, median of \(rounds) [least–most]; in brackets processor milliseconds a blob, both processes")
        print("| way | " + sizes.map(Numbers.size).joined(separator: " | ") + " |")
        print("|---|" + String(repeating: "---|", count: sizes.count))
        for name in names {
            let cells = sizes.map { size -> String in
                let times = results[name]?.seconds[size] ?? []
                func rate(_ share: Double) -> Double { Double(size) / Numbers.quantile(times, share) / 1e9 }
                let processor = (results[name]?.processor[size] ?? 0) / Double(rounds) * 1e3
                return String(
                    format: "%.2f [%.2f–%.2f] (%.2f)", rate(0.5), rate(0.999), rate(0), processor)
            }
            print("| \(name) | " + cells.joined(separator: " | ") + " |")
        }
    }
}
