import Foundation
import Tensor
import Testing

extension EndToEnd {
    /// One video on several decoders, each with its rows of the image.
    @Suite("Decoders that share a decode")
    struct SharedDecodeTests {
        /// Big enough for the demo model to be met in the middle of it.
        private static func request(workers: Int) -> String {
            #"{"prompt": "the sun rising over green hills", "num_inference_steps": 2, "num_frames": 17, "seed": 7, "#
                + #""size": "256x256", "output_type": "frames", "keep_float_frames": true, "#
                + "\"decode_workers\": \(workers)}"
        }

        @Test("two and three decoders make the frames of one", .timeLimit(.minutes(4)))
        func sameFrames() async throws {
            try await withCluster(
                workers: "vae-decoder=3", leaseSeconds: 10, options: ["--log-level", "info"]
            ) { cluster in
                try await cluster.waitForDecoders(3)
                let reference = try await cluster.frames(of: cluster.submit(Self.request(workers: 1)).id)
                #expect(reference.bytes.shape == [17, 256, 256, 3])
                for workers in 2...3 {
                    let id = try await cluster.submit(Self.request(workers: workers)).id
                    let frames = try await cluster.frames(of: id)
                    try frames.expectClose(to: reference)
                    let notes = try await cluster.video(id).stage("vae-decoder")?.notes
                    #expect(notes == ["decoded by \(workers) decoders"], "\(cluster.log.suffix(3000))")
                    try await cluster.waitForDecoders(3)
                }
                // Alone, when the others have work of their own or are not wanted.
                let alone = try await cluster.submit(Self.request(workers: 1)).id
                #expect(try await cluster.frames(of: alone).bytes.equals(reference.bytes))
            }
        }

        @Test("the file says how many decoders made it, and a replay takes as many", .timeLimit(.minutes(4)))
        func replayed() async throws {
            // More are asked for than there are: what counts is who came.
            let request = Self.request(workers: 5)
                .replacing(#""output_type": "frames", "keep_float_frames": true"#, with: #""container": "mkv""#)
            try await withCluster(
                workers: "vae-decoder=3", leaseSeconds: 10, options: ["--log-level", "info"]
            ) { cluster in
                try await cluster.waitForDecoders(3)
                let id = try await cluster.submit(request).id
                let notes = try await cluster.finished(id).stage("vae-decoder")?.notes
                #expect(notes == ["decoded by 3 decoders"], "\(cluster.log.suffix(3000))")
                let path = try await cluster.download(id, as: "shared.mkv")
                let comment = try #require(try await MediaFile(probing: path, in: cluster.folder).tags["comment"])
                #expect(comment.contains(#""decode_workers":3"#), "\(comment)")
                let replay = try await run("zoetrope", ["replay", path], in: cluster.folder)
                #expect(replay.status == 0, "\(replay.everything)")
                #expect(replay.output.contains("3 decoders shared the decode"))
                #expect(replay.output.contains("bit-identical: the files are the same, byte for byte"))
                // One alone makes the same video but for its last bits, and does not pretend otherwise.
                let alone = try await cluster.submit(
                    request.replacing("\"decode_workers\": 5", with: "\"decode_workers\": 1"))
                _ = try await cluster.finished(alone.id)
                let single = try await cluster.download(alone.id, as: "alone.mkv")
                let other = try #require(try await MediaFile(probing: single, in: cluster.folder).tags["comment"])
                #expect(!other.contains("decode_workers"), "\(other)")
            }
        }

        @Test(
            "kill -9 of the assistant, then of the leader, and a cancel: never more than time", .timeLimit(.minutes(6)))
        func deaths() async throws {
            try await withCluster(
                workers: "vae-decoder=2", leaseSeconds: 2, options: ["--log-level", "info"]
            ) { cluster in
                try await cluster.waitForDecoders(2)
                let reference = try await cluster.frames(of: cluster.submit(Self.request(workers: 1)).id)

                var (id, leader) = try await cluster.submitShared(Self.request(workers: 2))
                let assistant = try #require(cluster.decoders().first { $0.name != leader })
                kill(assistant.identifier, SIGKILL)
                try await cluster.frames(of: id).expectClose(to: reference)
                var stage = try #require(try await cluster.video(id).stage("vae-decoder"))
                #expect(stage.attempt == 1 && stage.worker == leader)
                #expect(stage.notes.first?.hasPrefix("decode_restarted: assistant 1 is gone") == true, "\(stage.notes)")
                #expect(stage.notes.last == "decoded by 1 decoder")

                try await cluster.waitForDecoders(2)
                (id, leader) = try await cluster.submitShared(Self.request(workers: 2))
                kill(try cluster.processIdentifier("zoetrope-vae-decoder", name: leader), SIGKILL)
                try await cluster.frames(of: id).expectClose(to: reference)
                stage = try #require(try await cluster.video(id).stage("vae-decoder"))
                #expect(stage.attempt >= 2)

                try await cluster.waitForDecoders(2)
                (id, leader) = try await cluster.submitShared(Self.request(workers: 2))
                let cancelled = try await cluster.zoetrope(["cancel", id])
                #expect(cancelled.status == 0, "\(cancelled.everything)")
                // Both have their slots back, and work together again.
                try await cluster.waitForDecoders(2)
                (id, leader) = try await cluster.submitShared(Self.request(workers: 2))
                try await cluster.frames(of: id).expectClose(to: reference)
                #expect(try await cluster.video(id).stage("vae-decoder")?.notes == ["decoded by 2 decoders"])
            }
        }

        @Test("an assistant that is frozen in the middle is done without after ten seconds", .timeLimit(.minutes(3)))
        func frozen() async throws {
            try await withCluster(
                workers: "vae-decoder=2", leaseSeconds: 20, options: ["--log-level", "info"]
            ) { cluster in
                try await cluster.waitForDecoders(2)
                let reference = try await cluster.frames(of: cluster.submit(Self.request(workers: 1)).id)
                let (id, leader) = try await cluster.submitShared(Self.request(workers: 2))
                let assistant = try #require(cluster.decoders().first { $0.name != leader })
                kill(assistant.identifier, SIGSTOP)
                defer { kill(assistant.identifier, SIGKILL) }
                try await cluster.frames(of: id).expectClose(to: reference)
                let stage = try #require(try await cluster.video(id).stage("vae-decoder"))
                #expect(stage.attempt == 1)
                #expect(stage.notes.first?.contains("assistant_silent") == true, "\(stage.notes)")
            }
        }
    }
}

/// A clip as a job has stored it.
private struct Frames {
    let bytes: Tensor
    let floats: Tensor

    /// Reductions are added in another order, nothing else differs.
    func expectClose(to other: Frames, _ location: SourceLocation = #_sourceLocation) throws {
        try #require(bytes.shape == other.bytes.shape && floats.shape == other.floats.shape)
        let steps = zip(bytes.bytes, other.bytes.bytes).reduce(0) { max($0, abs(Int($1.0) - Int($1.1))) }
        #expect(steps <= 1, sourceLocation: location)
        let values = zip(floats.values, other.floats.values).reduce(Float(0)) { max($0, abs($1.0 - $1.1)) }
        #expect(values <= 1e-4, sourceLocation: location)
    }
}

extension Tensor {
    fileprivate var bytes: [UInt8] { withUnsafeBytes { Array($0) } }

    fileprivate var values: [Float] { withUnsafeBytes { Array($0.bindMemory(to: Float.self)) } }

    fileprivate func equals(_ other: Tensor) -> Bool { shape == other.shape && bytes == other.bytes }
}

extension Cluster {
    /// The decoders' process ids and names.
    fileprivate func decoders() -> [(identifier: Int32, name: String)] {
        (0..<8).compactMap { number in
            let name = "vae-decoder-\(number)"
            guard let identifier = try? processIdentifier("zoetrope-vae-decoder", name: name) else { return nil }
            return (identifier, name)
        }
    }

    /// Waits until so many decoders are there and none of them has anything to do.
    fileprivate func waitForDecoders(_ count: Int) async throws {
        let started = ContinuousClock.now
        let wanted = #""vae-decoder":{"busy":0,"slots":\#(count),"workers":\#(count)}"#
        while true {
            let health = try await request("GET", "/healthz").text
            if health.contains(wanted) { return }
            try #require(ContinuousClock.now - started < .seconds(60), "\(health)\n\(log.suffix(4000))")
            try await Task.sleep(for: .milliseconds(20))
        }
    }

    /// Submits a job and waits until its decode is shared: its id, and who leads.
    fileprivate func submitShared(_ json: String) async throws -> (id: String, leader: String) {
        let before = assistances
        let id = try await submit(json).id
        let video = try await wait(id) { _ in assistances > before }
        return (id, try #require(video.stage("vae-decoder")?.worker))
    }

    /// How often a worker has begun to help another.
    private var assistances: Int { log.components(separatedBy: " assisting").count - 1 }

    fileprivate func frames(of id: String) async throws -> Frames {
        _ = try await finished(id, timeout: .seconds(120))
        return Frames(
            bytes: try await tensor("decode.frames", of: id), floats: try await tensor("decode.frames_float32", of: id))
    }

    private func tensor(_ name: String, of id: String) async throws -> Tensor {
        let answer = try await request("GET", "/v1/videos/\(id)/tensors/\(name)")
        try #require(answer.status == 200, "\(name): \(answer.text.prefix(300))")
        let path = folder.file("\(UUID().uuidString).safetensors")
        try answer.body.write(to: URL(fileURLWithPath: path))
        let file = try SafetensorsFile(path: path)
        return try file.tensor(try #require(file.names.first))
    }
}
