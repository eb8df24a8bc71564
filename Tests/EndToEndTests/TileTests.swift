import Foundation
import Testing

extension EndToEnd {
    @Suite("A video in tiles is decoded by all decoders together")
    struct TileTests {
        /// 96×96 is three by three tiles of the demo model; each takes its decoder a while.
        static let request = #"""
            {"prompt": "the sun rising over green hills", "num_inference_steps": 2, "num_frames": 81, "seed": 7,
             "container": "mkv", "vae_tiling": true}
            """#

        /// One decoder joins the tiles where frames are kept as floats.
        static let together = request.replacing("\"vae_tiling\"", with: "\"keep_float_frames\": true, \"vae_tiling\"")
        static let exact = request.replacing("true", with: "false")

        @Test(
            "kill -9 of one of two decoders in the middle of its tile: that tile alone is made again, in the same bits",
            .timeLimit(.minutes(4)))
        func killedInTile() async throws {
            try await withCluster(workers: "vae-decoder=2", leaseSeconds: 3) { cluster in
                let reference = try await cluster.submit(Self.request).id
                let hashes = try await frames(of: reference, in: cluster, name: "reference")
                #expect(hashes.count == 81)
                let tiles = try await tiles(of: reference, in: cluster)
                #expect(tiles.count == 9 && tiles.allSatisfy { $0.state == "done" && $0.attempt == 1 })
                #expect(Set(tiles.map(\.worker)) == ["vae-decoder-1", "vae-decoder-2"], "both decoders had tiles")

                let victim = try cluster.processIdentifier("zoetrope-vae-decoder", name: "vae-decoder-2")
                kill(victim, SIGSTOP)
                let id = try await cluster.submit(Self.request).id
                let held = try await cluster.wait(id) { video in
                    video.stages?.contains { $0.worker == "vae-decoder-2" && $0.isHeld } == true
                }
                let tile = try #require(held.stages?.first { $0.worker == "vae-decoder-2" && $0.isHeld }?.task)
                // Some of the tile's own arithmetic, by the clock of the process, and not all of it.
                let before = try processorTicks(of: victim)
                kill(victim, SIGCONT)
                let deadline = ContinuousClock.now + .seconds(20)
                while try processorTicks(of: victim) < before + 3 {
                    try #require(ContinuousClock.now < deadline, "\(cluster.log.suffix(4000))")
                }
                kill(victim, SIGKILL)
                #expect(try await frames(of: id, in: cluster, name: "again") == hashes)
                for stage in try await self.tiles(of: id, in: cluster) {
                    #expect(stage.attempt == (stage.task == tile ? 2 : 1), "\(stage)")
                }
            }
        }

        @Test(
            "the frames are those of one decoder that makes all tiles, and not those without tiles",
            .timeLimit(.minutes(3)))
        func oneDecoder() async throws {
            try await withCluster { cluster in
                let apart = try await frames(of: cluster.submit(Self.request).id, in: cluster, name: "apart")
                let joined = try await cluster.submit(Self.together).id
                #expect(try await frames(of: joined, in: cluster, name: "joined") == apart)
                #expect(try await tiles(of: joined, in: cluster).count == 1)
                let exact = try await cluster.submit(Self.exact).id
                #expect(try await frames(of: exact, in: cluster, name: "exact") != apart)
                // The same latents once more, in tiles.
                let answer = try await cluster.request(
                    "POST", "/v1/videos/\(exact)/reencode", body: Data(#"{"vae_tiling": true}"#.utf8),
                    headers: ["Content-Type": "application/json"])
                let again = try JSONDecoder().decode(Video.self, from: answer.body).id
                #expect(try await frames(of: again, in: cluster, name: "again") == apart)
            }
        }

        private func tiles(of id: String, in cluster: Cluster) async throws -> [Video.Stage] {
            try await cluster.video(id).stages?.filter { $0.stage == "vae-decoder" } ?? []
        }

        private func frames(of id: String, in cluster: Cluster, name: String) async throws -> [String] {
            _ = try await cluster.finished(id)
            let path = try await cluster.download(id, as: "\(name).mkv")
            return try await MediaFile.frameHashes(path, in: cluster.folder)
        }

        /// User and system time of a process, in hundredths of a second.
        private func processorTicks(of identifier: Int32) throws -> Int {
            let text = try String(contentsOfFile: "/proc/\(identifier)/stat", encoding: .utf8)
            let fields = text[(text.lastIndex(of: ")") ?? text.startIndex)...].split(separator: " ")
            return try #require(Int(fields[12])) + (try #require(Int(fields[13])))
        }
    }
}
