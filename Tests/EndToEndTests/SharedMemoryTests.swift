import Foundation
import Testing

extension EndToEnd {
    @Suite("Shared memory between the services of one host")
    struct SharedMemoryTests {
        private static let body = #"{"prompt": "\#(EndToEnd.prompt)", "num_inference_steps": 5, "seed": 11}"#

        /// A counter of `/metrics`, by its name and labels.
        private func counter(_ line: String, _ cluster: Cluster) async throws -> Int {
            let text = try await cluster.request("GET", "/metrics").text
            let found = try #require(text.split(separator: "\n").first { $0.hasPrefix(line + " ") }, "\(line): \(text)")
            return try #require(Int(found.dropFirst(line.count + 1)))
        }

        /// Makes one video and waits until the workers have told what they fetched for it.
        private func make(
            _ options: [String], way: String, _ check: (Cluster) async throws -> Void = { _ in }
        ) async throws -> Data {
            var latents = Data()
            try await withCluster(options: options) { cluster in
                let id = try await cluster.submit(Self.body).id
                _ = try await cluster.finished(id)
                for stage in ["vae-decoder", "video-muxer"] {
                    let name = "zoetrope_fetched_blobs_total{stage=\"\(stage)\",way=\"\(way)\"}"
                    let deadline = ContinuousClock.now + .seconds(20)
                    while try await counter(name, cluster) == 0 {
                        try #require(.now < deadline, "\(stage) fetched nothing by way of \(way)")
                        try await Task.sleep(for: .milliseconds(50))
                    }
                }
                try await check(cluster)
                let answer = try await cluster.request("GET", "/v1/videos/\(id)/content?variant=spritesheet")
                try #require(answer.status == 200, "\(answer.text)")
                latents = answer.body
            }
            return latents
        }

        @Test("latents and frames go through it, and the pictures are those of sockets alone", .timeLimit(.minutes(2)))
        func sameResults() async throws {
            let shared = try await make([], way: "memory") { cluster in
                let name = "zoetrope_shared_memory_fallbacks_total{stage=\"video-muxer\"}"
                let fallbacks = try await counter(name, cluster)
                #expect(fallbacks == 0)
            }
            let plain = try await make(["--shared-memory", "off"], way: "socket")
            #expect(shared == plain && !shared.isEmpty)
        }

        @Test("decoders and muxers that are killed leave no memory with the others", .timeLimit(.minutes(2)))
        func killedConsumers() async throws {
            try await withCluster { cluster in
                let broker = try cluster.processIdentifier("zoetrope-broker")
                _ = try await cluster.finished(cluster.submit(Self.body).id)
                for _ in 0..<2 {
                    for executable in ["zoetrope-video-muxer", "zoetrope-vae-decoder"] {
                        kill(try cluster.processIdentifier(executable), SIGKILL)
                    }
                    _ = try await cluster.finished(cluster.submit(Self.body).id, timeout: .seconds(60))
                }
                // One memory for each consumer that lives and has asked lately, none of those that were killed.
                let lent = try lentMemories(of: broker)
                #expect(lent >= 1 && lent <= 4, "the broker has \(lent) memories open")
            }
        }

        private func lentMemories(of process: Int32) throws -> Int {
            let folder = "/proc/\(process)/fd"
            return try FileManager.default.contentsOfDirectory(atPath: folder).count {
                let target = try? FileManager.default.destinationOfSymbolicLink(atPath: "\(folder)/\($0)")
                return target?.contains("memfd:zoetrope-blobs") ?? false
            }
        }
    }
}
