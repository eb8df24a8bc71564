import Foundation
import Media
import Testing

extension EndToEnd {
    @Suite("Looking at a running job")
    struct PreviewTests {
        /// So many steps that somebody has time to look.
        private static let long = CrashTests.request
            .replacing("\"num_inference_steps\": 10", with: "\"num_inference_steps\": 500")

        /// How many previews the denoisers say that they have made.
        private func made(_ cluster: Cluster) async throws -> Int {
            let text = try await cluster.request("GET", "/metrics").text
            let line = try #require(text.split(separator: "\n").first { $0.hasPrefix("zoetrope_previews_total ") })
            return try #require(line.split(separator: " ").last.flatMap { Int($0) })
        }

        @Test(
            "a job that is watched shows its steps as pictures, and one that nobody watches makes none",
            .timeLimit(.minutes(4)))
        func watched() async throws {
            try await withCluster { cluster in
                let alone = try await cluster.submit(Self.long).id
                let latents = try await cluster.latents(of: alone)
                #expect(try await made(cluster) == 0)

                let folder = cluster.folder.file("previews")
                let id = try await cluster.submit(Self.long).id
                let watch = try await run(
                    "zoetrope", ["watch", id, "--previews", folder, "--server", cluster.server], in: cluster.folder)
                #expect(watch.status == 0, "\(watch.everything)")
                let names = try FileManager.default.contentsOfDirectory(atPath: folder).sorted()
                #expect((1...500).contains(names.count))
                for name in names {
                    let step = try #require(Int(name.dropFirst("step-".count).dropLast(".jpg".count)))
                    #expect((1...500).contains(step))
                    let bytes = try Data(contentsOf: URL(fileURLWithPath: "\(folder)/\(name)"))
                    let picture = try InputImage(bytes: Array(bytes))
                    // Three latent frames side by side, and the gaps between them.
                    #expect(picture.format == .jpeg && picture.width == 3 * 96 + 4 * 4)
                }
                #expect(try await cluster.latents(of: id) == latents)
                // The last beat may still be under way.
                var count = try await made(cluster)
                for _ in 0..<100 where count < names.count {
                    try await Task.sleep(for: .milliseconds(20))
                    count = try await made(cluster)
                }
                #expect(count >= names.count)

                _ = try await cluster.finished(cluster.submit(Self.long).id)
                #expect(try await made(cluster) == count, "nobody looks any more")
            }
        }
    }
}
