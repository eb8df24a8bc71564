import ArgumentParser
import CommandLineService
import Failure
import Foundation
import Runtime
import Tensor
import Testing

@Suite("server-sent events")
struct ServerSentEventsTests {
    @Test("events split anywhere come out whole") func anySplit() {
        let text = ": keep-alive\n\nid: 3\ndata: {\"a\":1}\n\ndata: x\r\ndata: y\r\n\r\nevent: z\n\n"
        let bytes = Array(text.utf8)
        for size in 1...bytes.count {
            var parser = ServerSentEvents()
            var events: [String] = []
            for start in stride(from: 0, to: bytes.count, by: size) {
                events += parser.append(bytes[start..<min(start + size, bytes.count)])
            }
            #expect(events == ["{\"a\":1}", "x\ny"])
        }
    }
}

@Suite("arguments of serve and generate")
struct ArgumentsTests {
    @Test("worker counts name stages and numbers") func workerCounts() throws {
        #expect(try WorkerCounts.parse(nil) == [:])
        #expect(try WorkerCounts.parse("denoiser=2,vae-decoder=3") == ["denoiser": 2, "vae-decoder": 3])
        for wrong in ["denoiser", "denoiser=0", "denoiser=65", "painter=1", "denoiser=x", "=1"] {
            #expect(throws: Failure.self, "\(wrong)") { try WorkerCounts.parse(wrong) }
        }
    }

    @Test("spans of time are numbers with units, added up") func timeSpans() {
        let right: [(String, Double)] = [
            ("90s", 90), ("10m", 600), ("1h30m", 5400), ("2d", 172_800), ("45", 45), ("1.5m", 90), ("0m5s", 5),
        ]
        for (text, seconds) in right { #expect(TimeSpan(argument: text)?.seconds == seconds, "\(text)") }
        for wrong in ["", "m", "10x", "-5s", "0", "0s", "1h30", "1 m", "nan", "inf", "١٠s"] {
            #expect(TimeSpan(argument: wrong) == nil, "\(wrong)")
        }
    }

    @Test("submit and generate take a deadline and refuse what is none") func deadlineOption() throws {
        let submit = try SubmitCommand.parse(["a boat", "--deadline", "10m"])
        #expect(submit.deadline?.seconds == 600)
        #expect(try GenerateCommand.parse(["a boat", "--deadline", "90s"]).deadline?.seconds == 90)
        #expect(try SubmitCommand.parse(["a boat"]).deadline == nil)
        #expect(throws: (any Error).self) { try SubmitCommand.parse(["a boat", "--deadline", "soon"]) }
    }

    @Test("an adapter is a name with a weight behind a colon, or a file that has colons itself") func loraOption()
        throws
    {
        let video = try GenerateCommand.parse(["a boat", "--lora", "style:0.5", "--lora", "people/anna"]).video
        #expect(video.lora.map(\.name) == ["style", "people/anna"] && video.lora.map(\.weight) == [0.5, 1])
        let fields = try #require(video.fields()["loras"] as? [[String: any Sendable]])
        #expect(fields[0]["name"] as? String == "style" && fields[0]["weight"] as? Double == 0.5)
        #expect(try SubmitCommand.parse(["a boat"]).video.fields()["loras"] == nil)
        #expect(LoraOption(argument: "style:-2")?.weight == -2 && LoraOption(argument: "a:b:1e-1")?.name == "a:b")
        for wrong in ["style:nan", "style:inf", "style:x", "style:", "style:0.5x"] {
            #expect(LoraOption(argument: wrong) == nil, "\(wrong)")
        }
        let path = FileManager.default.temporaryDirectory.path + "/zoetrope-\(UUID().uuidString):0.5"
        try Data().write(to: URL(fileURLWithPath: path))
        defer { try? FileManager.default.removeItem(atPath: path) }
        #expect(LoraOption(argument: path) == LoraOption(argument: path + ":1"))
    }

    @Test("the folder of adapters goes to the gateway and the denoisers, and to nobody else") func adaptersFolder() {
        var plan = ClusterPlan(
            model: "m", runDirectory: "/r", dataDirectory: "/d", gateway: ListenAddress(host: "127.0.0.1", port: 1))
        #expect(!plan.members.contains { $0.arguments.contains("--adapters") })
        plan.adapters = "/loras"
        plan.workers = ["denoiser": 2]
        let names = plan.members.filter { $0.arguments.suffix(20).joined(separator: " ").contains("--adapters /loras") }
        #expect(names.map(\.name) == ["gateway", "denoiser-1", "denoiser-2"])
    }

    @Test("a status says when the deadline is, and how long until then") func deadlineLine() throws {
        func line(_ fields: String, status: String = "queued") throws -> String? {
            let json = #"{"id": "v", "status": "\#(status)"\#(fields)}"#
            return StatusCommand.deadline(
                of: try JSONDecoder().decode(VideoStatus.self, from: Data(json.utf8)), now: 1_700_000_000)
        }
        #expect(try line("") == nil)
        #expect(try line(#", "x_deadline_at": 1700000090"#) == "  deadline 2023-11-14T22:14:50Z, in 90.0 s")
        #expect(try line(#", "x_deadline_at": 1699999990"#) == "  deadline 2023-11-14T22:13:10Z")
        #expect(try line(#", "x_deadline_at": 1700000090"#, status: "failed") == "  deadline 2023-11-14T22:14:50Z")
    }

    @Test("listen addresses need a host and a port") func listenAddress() throws {
        #expect(try ListenAddress(parsing: "0.0.0.0:80").port == 80)
        for wrong in ["8080", ":8080", "host:", "host:70000", "host:x"] {
            #expect(throws: Failure.self, "\(wrong)") { try ListenAddress(parsing: wrong) }
        }
    }

    @Test("a plan starts broker and gateway first and as many workers as asked") func plan() {
        var plan = ClusterPlan(
            model: "/m", runDirectory: "/r", dataDirectory: "/d", gateway: ListenAddress(host: "127.0.0.1", port: 9))
        plan.workers = ["denoiser": 2]
        let names = plan.members.map(\.name)
        #expect(
            names == [
                "broker", "gateway", "text-encoder-1", "vae-encoder-1", "denoiser-1", "denoiser-2", "vae-decoder-1",
                "video-muxer-1",
            ])
        plan.upsamplerArguments = ["--base-url", "http://x"]
        #expect(plan.members.last?.executable == "zoetrope-prompt-upsampler")
    }

    @Test("the output's extension chooses the container, and an unknown one is refused early") func outputs() throws {
        let files = try OutputFiles(output: "/tmp/clip.webm", contactSheet: nil, outputType: "video")
        #expect(files.container == "webm")
        #expect(files.contactSheet == "/tmp/clip.png")
        #expect(throws: Failure.self) {
            try OutputFiles(output: "/tmp/clip.avi", contactSheet: nil, outputType: "video")
        }
        #expect(throws: Failure.self) {
            try OutputFiles(output: "/tmp/clip.mp4", contactSheet: nil, outputType: "latent")
        }
        #expect(throws: Failure.self) {
            try OutputFiles(output: "/nowhere/clip.mp4", contactSheet: nil, outputType: "video")
        }
    }

    @Test("a step cache and its settings go into the request as they are") func stepCache() throws {
        let options = try GenerationOptions.parse([
            "a cat", "--step-cache", "first_block", "--step-cache-threshold", "0.08", "--step-cache-range", "3",
        ])
        let fields = options.fields()
        #expect(fields["step_cache"] as? String == "first_block")
        #expect(fields["step_cache_threshold"] as? Double == 0.08)
        #expect(fields["step_cache_range"] as? Int == 3)
    }

    @Test("tiles are asked for by name") func tiling() throws {
        #expect(try GenerationOptions.parse(["a cat", "--vae-tiling"]).fields()["vae_tiling"] as? Bool == true)
    }

    @Test("absent flags are absent fields") func fields() throws {
        let options = try GenerationOptions.parse(["a cat", "--num-frames", "17", "--seed", "18446744073709551615"])
        let fields = options.fields()
        #expect(Set(fields.keys) == ["prompt", "num_frames", "seed"])
        #expect(fields["seed"] as? UInt64 == .max)
    }
}

@Suite("initial latents")
struct LatentsFileTests {
    private func file(_ tensors: [(String, Tensor)]) throws -> String {
        let path = FileManager.default.temporaryDirectory.appending(path: "\(UUID().uuidString).safetensors").path
        try SafetensorsWriter.write(tensors: tensors, metadata: [:], to: path)
        return path
    }

    private func failureCode(_ tensors: [(String, Tensor)], shape: [Int]) throws -> String? {
        let path = try file(tensors)
        defer { try? FileManager.default.removeItem(atPath: path) }
        do {
            _ = try LatentsFile.read(path: path, shape: shape)
            return nil
        } catch {
            return error.code
        }
    }

    @Test("the tensor called latents, or the only one, is taken") func choice() throws {
        let good = Tensor([1, 2], shape: [1, 2])
        let other = Tensor([3], shape: [1])
        #expect(try failureCode([("noise", good)], shape: [1, 2]) == nil)
        #expect(try failureCode([("latents", good), ("other", other)], shape: [1, 2]) == nil)
        #expect(try failureCode([("a", good), ("b", other)], shape: [1, 2]) == "init_latents_ambiguous")
    }

    @Test("wrong shapes, integers and NaN are refused with their own codes") func refusals() throws {
        #expect(
            try failureCode([("latents", Tensor([1, 2], shape: [2, 1]))], shape: [1, 2]) == "init_latents_misshapen")
        #expect(
            try failureCode([("latents", Tensor(ids: [1, 2], shape: [1, 2]))], shape: [1, 2])
                == "init_latents_misshapen")
        #expect(
            try failureCode([("latents", Tensor([1, .nan], shape: [1, 2]))], shape: [1, 2]) == "init_latents_not_finite"
        )
    }
}

@Suite("progress display")
struct ProgressDisplayTests {
    private func status(step: Int, state: String = "running", notes: [String] = []) throws -> VideoStatus {
        let notesJSON = try String(decoding: JSONEncoder().encode(notes), as: UTF8.self)
        let json = """
            {"id": "video_1", "status": "in_progress", "x_stages": [{"task": "denoise", "stage": "denoiser",
            "state": "\(state)", "worker": "denoiser-1", "attempt": 1, "step": \(step), "total": 20,
            "elapsed_ms": 1500, "remaining_ms": 61000, "notes": \(notesJSON)}]}
            """
        return try JSONDecoder().decode(VideoStatus.self, from: Data(json.utf8))
    }

    @Test("a bar shows step, time and what is left") func bar() throws {
        let line = ProgressDisplay.bar(try status(step: 10).stages[0])
        #expect(line.contains("10/20") && line.contains("1.50 s") && line.contains("61.0 s left"))
        #expect(line.filter { $0 == "━" }.count == 12)
    }

    @Test("without a terminal only changes of a tenth are printed, and each note once") func plain() throws {
        let written = Lines()
        var display = ProgressDisplay(isTerminal: false) { written.append($0) }
        display.show(try status(step: 2, notes: ["cut"]))
        display.show(try status(step: 3, notes: ["cut"]))
        display.show(try status(step: 4, notes: ["cut"]))
        #expect(written.all.filter { $0.contains("note: cut") }.count == 1)
        #expect(written.all.filter { $0.contains("denoiser") }.count == 2)
    }

    @Test("the tiles of a clip are one row: steps and times together") func tiles() throws {
        func stage(_ name: String, _ stage: String, _ state: String, step: Int, total: Int) -> String {
            """
            {"task": "\(name)", "stage": "\(stage)", "state": "\(state)", "worker": "\(name)", "attempt": 1,
            "step": \(step), "total": \(total), "elapsed_ms": 100, "remaining_ms": 50, "notes": []}
            """
        }
        func rows(_ states: [(String, Int, Int)]) throws -> [VideoStatus.Stage] {
            let tiles = states.enumerated().map {
                stage("decode.0.\($0)", "vae-decoder", $1.0, step: $1.1, total: $1.2)
            }
            let all = ([stage("denoise", "denoiser", "done", step: 5, total: 5)] + tiles).joined(separator: ",")
            let json = "{\"id\": \"v\", \"status\": \"in_progress\", \"x_stages\": [\(all)]}"
            return ProgressDisplay.rows(of: try JSONDecoder().decode(VideoStatus.self, from: Data(json.utf8)))
        }
        let busy = try rows([("done", 6, 6), ("running", 3, 6), ("ready", 0, 0)])
        #expect(busy.map(\.stage) == ["denoiser", "vae-decoder"])
        #expect(busy[1].state == "running" && busy[1].step == 9 && busy[1].totalSteps == 18)
        #expect(busy[1].elapsedMilliseconds == 300 && busy[1].remainingMilliseconds == 150)
        #expect(try rows([("done", 6, 6), ("done", 0, 0)])[1].state == "done")
        #expect(try rows([("done", 6, 6), ("ready", 0, 0)])[1].state == "ready")
        #expect(try rows([("cancelled", 0, 0), ("failed", 1, 6)])[1].state == "failed")
    }

    @Test("durations read as people say them") func durations() {
        #expect(ProgressDisplay.duration(420) == "0.42 s")
        #expect(ProgressDisplay.duration(12_340) == "12.3 s")
        #expect(ProgressDisplay.duration(245_000) == "4 min 05 s")
        #expect(ProgressDisplay.duration(11_220_000) == "3 h 07 min")
    }
}

/// `@unchecked Sendable`: used from one test's single thread.
private final class Lines: @unchecked Sendable {
    private(set) var all: [String] = []
    func append(_ line: String) { all.append(line) }
}
