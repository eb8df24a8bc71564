import Foundation
import Testing

extension EndToEnd {
    /// More than one broker: `docs/operations.md`, "More than one broker".
    @Suite("Two cells and one set of workers")
    struct CellTests {
        private static let short =
            #"{"prompt": "a", "num_inference_steps": 10, "num_frames": 9, "seed": 7, "container": "mkv"}"#
        private static let long = short.replacing("\"num_inference_steps\": 10", with: "\"num_inference_steps\": 100")

        @Test(
            "jobs of both share the workers; kill -9 of one broker stops its jobs only, and they end after its restart",
            .timeLimit(.minutes(5)))
        func oneDies() async throws {
            let cells = try await Cells()
            defer { cells.stop() }
            let reference = try await cells.frames(of: cells.submit(Self.short).id, name: "reference")
            let longReference = try await cells.frames(of: cells.submit(Self.long).id, name: "long-reference")
            #expect(reference.count == 9 && reference != longReference)

            // Both cells have work: one denoiser of one slot, so never two denoise tasks at once.
            var jobs: [CellVideo] = []
            for _ in 0..<4 { jobs.append(try await cells.submit(Self.long)) }
            #expect(Set(jobs.compactMap(\.cell)) == Set(Cells.names), "\(jobs.compactMap(\.cell))")
            let ids = jobs.map(\.id)
            try await cells.waitUntil("every job is over", timeout: .seconds(120)) {
                var open = 0
                var held = 0
                for id in ids {
                    let video = try await cells.video(id)
                    open += video.isTerminal ? 0 : 1
                    held += video.stage("denoiser")?.isHeld == true && (video.stage("denoiser")?.step ?? 0) > 0 ? 1 : 0
                }
                #expect(held <= 2, "a status may be of a moment ago, three cannot")
                return open == 0
            }
            for (number, id) in ids.enumerated() {
                #expect(try await cells.frames(of: id, name: "shared-\(number)") == longReference)
            }
            try requireOneAtATime(cells)

            // A job under way in each cell, then one broker is killed.
            var caught: [String: String] = [:]
            while caught.count < 2 {
                let video = try await cells.submit(Self.long)
                caught[try #require(video.cell)] = video.id
            }
            let lost = try #require(caught["south"])
            let kept = try #require(caught["north"])
            try await cells.waitUntil("the job of south has begun") {
                try await cells.video(lost).status == "in_progress"
            }
            cells.killBroker("south")
            try await cells.waitUntil("the gateway has noticed") {
                try await cells.get("/healthz").text.contains("broker_unreachable")
            }
            let away = try await cells.get("/v1/videos/\(lost)")
            #expect(away.status == 503 && away.errorCode == "cell_unreachable" && away.text.contains("south"))
            #expect(try await cells.get("/healthz").status == 200)
            #expect(try await cells.get("/v1/videos").text.contains("\"x_unreachable_cells\":[\"south\"]"))
            #expect(try await cells.frames(of: kept, name: "kept") == longReference)
            let new = try await cells.submit(Self.short)
            #expect(new.cell == "north")
            #expect(try await cells.frames(of: new.id, name: "new") == reference)
            try await keys(cells)

            try cells.startBroker("south")
            #expect(try await cells.frames(of: lost, name: "lost") == longReference)
        }

        /// While south is away, keys that belong there are refused, and taken by it when it is back.
        private func keys(_ cells: Cells) async throws {
            var taken = 0
            var refused = 0
            for number in 0..<8 {
                let answer = try await cells.request("POST", "/v1/videos", body: Self.short, key: "key-\(number)")
                switch answer.status {
                case 200: taken += 1
                default:
                    #expect(answer.status == 503 && answer.errorCode == "cell_unreachable", "\(answer.text)")
                    refused += 1
                }
            }
            #expect(taken > 0 && refused > 0)
        }

        /// The denoiser's log tells what began and ended, in order.
        private func requireOneAtATime(_ cells: Cells) throws {
            let log = try String(contentsOfFile: cells.folder.file("denoiser.err"), encoding: .utf8)
            var running = 0
            var begun = 0
            for line in log.split(separator: "\n") {
                if line.contains("task started") {
                    running += 1
                    begun += 1
                }
                if line.contains("task done") || line.contains("task failed") || line.contains("task stopped") {
                    running -= 1
                }
                #expect(running <= 1, "\(line)")
            }
            #expect(begun >= 6)
        }

        @Test("serve --cells 2 runs two brokers, and the one that is killed is started again", .timeLimit(.minutes(3)))
        func serve() async throws {
            try await withCluster(options: ["--cells", "2"]) { cluster in
                let jobs = [try await cluster.submit(Self.short).id, try await cluster.submit(Self.short).id]
                for id in jobs { _ = try await cluster.finished(id) }
                let list = try await cluster.zoetrope(["drain", "--list"])
                #expect(
                    list.output.contains("cell cell-1") && list.output.contains("cell cell-2"), "\(list.everything)")
                kill(try cluster.processIdentifier("zoetrope-broker", name: "cell-1"), SIGKILL)
                let started = ContinuousClock.now
                for id in jobs {
                    while try await cluster.request("GET", "/v1/videos/\(id)").status != 200 {
                        try #require(ContinuousClock.now - started < .seconds(30), "\(cluster.log.suffix(3000))")
                        try await Task.sleep(for: .milliseconds(50))
                    }
                }
            }
        }
    }
}
