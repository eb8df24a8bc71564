import Diffusion
import Failure
import FoundationEssentials
import Media
import Request
import Stage
import Tensor
import TestSupport
import Testing
import VideoMuxerService
import Wire

@Suite(.serialized, .timeLimit(.minutes(1)))
struct VideoMuxerTests {
    private func request(_ container: OutputContainer) -> GenerationRequest {
        GenerationRequest(
            prompt: "a \"red\" sun — over hills", negativePrompt: "blurry", width: 64, height: 48, numFrames: 9,
            framesPerSecond: 8, numInferenceSteps: 25, guidanceScale: 6, useDynamicCFG: false, scheduler: .ddim,
            seed: 42, dtype: .float32, container: container)
    }

    private func task(_ container: OutputContainer, frames: Tensor, decode: String? = nil) throws -> StageTask {
        let parameters = MuxParameters(request: request(container), modelDigest: "abc123")
        return StageTask(
            name: "job/mux", attempt: 1, parameters: try CanonicalJSON.encode(parameters),
            port: LocalPort(
                inputs: ["frames": frames],
                origins: [TaskOrigin(task: "denoise", numerics: "cpu/avx2/2", isMixed: true)]
                    + (decode.map { [TaskOrigin(task: "decode", numerics: "cpu/avx2/2", manner: $0)] } ?? [])))
    }

    @Test("the file says how many decoders made it, where that is more than one", arguments: ["", "decoders=3"])
    func decoders(manner: String) async throws {
        let result = try await VideoMuxerHandler(threads: 1).run(try task(.mkv, frames: frames, decode: manner))
        try withFile(try #require(result.output("video")), named: "video.mkv") { path in
            let tags = try MediaProbe(path: path).metadata.map { ($0.key.lowercased(), $0.value) }
            let comment = Dictionary(uniqueKeysWithValues: tags)["comment"]
            #expect(try VideoManifest(comment: comment).request.decodeWorkers == (manner.isEmpty ? nil : 3))
        }
    }

    /// Frames whose brightness rises from frame to frame.
    private var frames: Tensor {
        var clip = Tensor(zeros: [9, 48, 64, 3], dtype: .uint8)
        clip.withUnsafeMutableBytes { target in
            for index in target.indices {
                target[index] = UInt8(truncatingIfNeeded: index / (48 * 64 * 3) * 25 + index % 3 * 10)
            }
        }
        return clip
    }

    private func withFile<Result>(
        _ bytes: Tensor, named name: String, _ body: (String) throws -> Result
    ) throws -> Result {
        let path = FileManager.default.temporaryDirectory.appending(path: "\(UUID().uuidString)-\(name)").path()
        defer { try? FileManager.default.removeItem(atPath: path) }
        try bytes.withUnsafeBytes { try Data($0).write(to: URL(filePath: path)) }
        return try body(path)
    }

    @Test(
        "the video has the frames, size, rate and provenance of the job", arguments: [OutputContainer.mp4, .webm, .mkv])
    func video(container: OutputContainer) async throws {
        let result = try await VideoMuxerHandler(threads: 1).run(try task(container, frames: frames))
        let bytes = try #require(result.output("video"))
        try withFile(bytes, named: "video.\(container.rawValue)") { path in
            let probe = try MediaProbe(path: path)
            #expect(probe.width == 64 && probe.height == 48)
            #expect(probe.frameCount == 9)
            #expect(probe.framesPerSecond == FrameRate(numerator: 8))
            let tags = Dictionary(uniqueKeysWithValues: probe.metadata.map { ($0.key.lowercased(), $0.value) })
            #expect(tags["title"] == "a \"red\" sun — over hills")
            let comment = try #require(tags["comment"])
            let manifest = try VideoManifest(comment: comment)
            #expect(manifest.model.digest == "abc123" && manifest.request == request(container))
            #expect(manifest.framesDigest == frames.withUnsafeBytes { Digest.of($0) }.description)
            #expect(manifest.arithmetic == ["denoise": .init(name: "cpu/avx2/2", mixed: true)])
            #expect(manifest.libraries.keys.sorted() == ["avcodec", "avformat", "swscale"])
        }
    }

    @Test("the lossless container gives back every byte")
    func lossless() async throws {
        let result = try await VideoMuxerHandler(threads: 1).run(try task(.mkv, frames: frames))
        try withFile(try #require(result.output("video")), named: "video.mkv") { path in
            let read = try VideoReader(path: path).frames()
            #expect(identical(read, frames))
        }
    }

    @Test("a GIF, a PNG contact sheet and a JPEG thumbnail are what they say")
    func pictures() async throws {
        let task = try task(.gif, frames: frames)
        let result = try await VideoMuxerHandler(threads: 1).run(task)
        func start(_ name: String) throws -> [UInt8] {
            try #require(result.output(name)).withUnsafeBytes { Array($0.prefix(4)) }
        }
        #expect(try start("video") == Array("GIF8".utf8))
        #expect(try start("contact_sheet") == [0x89, 0x50, 0x4e, 0x47])
        #expect(try start("thumbnail").prefix(2) == [0xff, 0xd8])
        #expect(task.progress.step == 10 && task.progress.total == 10)
    }

    @Test("frames of another shape or type are refused by name")
    func wrongFrames() async throws {
        for (frames, code) in [
            (Tensor(zeros: [9, 48, 64, 4], dtype: .uint8), "tensor_misshapen"),
            (Tensor(zeros: [9, 48, 64, 3]), "tensor_dtype_wrong"),
        ] {
            let task = try task(.mp4, frames: frames)
            await #expect {
                try await VideoMuxerHandler(threads: 1).run(task)
            } throws: { ($0 as? Failure)?.code == code && ($0 as? Failure)?.retry == .never }
        }
    }

    @Test("a cancelled job stops between frames and leaves no file behind")
    func cancelled() async throws {
        let before = try scratchFolders()
        let task = try task(.mp4, frames: frames)
        task.progress.cancel("test")
        await #expect {
            try await VideoMuxerHandler(threads: 1).run(task)
        } throws: { ($0 as? Failure)?.code == "cancelled" }
        #expect(try scratchFolders().subtracting(before).isEmpty)
    }

    private func scratchFolders() throws -> Set<String> {
        let folder = FileManager.default.temporaryDirectory.path()
        return Set(
            try FileManager.default.contentsOfDirectory(atPath: folder).filter {
                $0.hasPrefix("zoetrope-") && $0.count > 40
            })
    }
}
