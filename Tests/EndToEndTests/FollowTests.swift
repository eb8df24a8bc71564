import Foundation
import Testing

extension EndToEnd {
    /// Encoding while the clip is decoded.
    @Suite("A muxer that follows a decode")
    struct FollowTests {
        private static let request =
            #"{"prompt": "the sun rising over green hills", "num_inference_steps": 2, "num_frames": 17, "seed": 7, "#
            + #""size": "256x256"}"#

        private static let line = "17 frames were encoded while they were decoded"

        @Test(
            "the file is what it is without, and a muxer killed in the middle of the decode costs nothing",
            .timeLimit(.minutes(4)))
        func sameFile() async throws {
            try await withCluster(
                workers: "video-muxer=1", leaseSeconds: 10, options: ["--log-level", "info"]
            ) { cluster in
                let first = try await cluster.submit(Self.request).id
                _ = try await cluster.finished(first)
                #expect(cluster.count(Self.line) == 1, "\(cluster.log.suffix(3000))")

                let second = try await cluster.submit(Self.request).id
                _ = try await cluster.wait(second) { _ in cluster.count(" following") == 2 }
                kill(try cluster.processIdentifier("zoetrope-video-muxer"), SIGKILL)
                _ = try await cluster.finished(second)
                #expect(cluster.count(Self.line) == 1, "the clip was lost with the muxer")
                let files = [
                    try await cluster.download(first, as: "followed.mp4"),
                    try await cluster.download(second, as: "lost.mp4"),
                ]
                #expect(FileManager.default.contentsEqual(atPath: files[0], andPath: files[1]))
            }
        }
    }
}

extension Cluster {
    /// How often the services have said `text`.
    fileprivate func count(_ text: String) -> Int { log.components(separatedBy: text).count - 1 }
}
