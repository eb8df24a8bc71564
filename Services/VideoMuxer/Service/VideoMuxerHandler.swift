package import Failure
import Media
import Request
import Runtime
package import Stage
import Tensor
import Wire

/// Stage `video-muxer`: frames to a video file, a contact sheet and a thumbnail, each as the bytes of a file.
///
/// Outputs: `video` in the container asked for, with the prompt as its title and a manifest (`VideoManifest`) as its
/// comment, from which it can be made again;
/// `contact_sheet` PNG; `thumbnail` JPEG of the middle frame.
///
/// A clip that is still being decoded is encoded as its frames come (`follow`); the task then writes the file alone.
package struct VideoMuxerHandler: StageHandler {
    package let stage = StageName.videoMuxer.rawValue
    package let modelDigest = ""
    package let numerics = ""
    package let memoryPlan = MemoryPlan([
        "frames of a clip of 49×480×720": 51_000_000, "tiles while they are joined": 250_000_000,
        "clips encoded while they were decoded, until they are fetched": EncodedClips.byteLimit,
    ])
    private let threads: Int
    private let clips: EncodedClips

    /// - Parameters:
    ///   - threads: of the video encoder; 0 lets it choose.
    ///   - clips: where clips wait that were encoded before their task came.
    package init(threads: Int, clips: EncodedClips = EncodedClips()) {
        self.threads = threads
        self.clips = clips
    }

    package func run(_ task: StageTask) async throws(Failure) -> StageResult {
        let parameters = try task.parameters(MuxParameters.self)
        let frames: Tensor
        if let tiles = parameters.tiles {
            frames = try await TileReader(tiles, request: parameters.request).frames(of: task)
        } else {
            frames = try await task.input(
                "frames", TensorExpectation([.uint8], [.any("frames"), .any("height"), .any("width"), 3]))
        }
        let read = parameters.tiles?.counts.count ?? 0, total = read + frames.shape[0] + 1
        var result = StageResult()
        let digest = frames.withUnsafeBytes { Digest.of($0) }
        let metadata = try await metadata(digest, parameters, task)
        let format = try Self.format(parameters)
        let shape = ClipShape(frames: frames.shape[0], height: frames.shape[1], width: frames.shape[2])
        let key = EncodedClips.Key(frames: digest, shape: shape, container: format.container, rate: format.rate)
        let encoded = try await clips.take(key, job: EncodedClips.job(of: task.name)) { () throws(Failure) in
            try task.checkCancelled()
        }
        if let encoded {
            result.add("video", try video(encoded, metadata, task))
        } else {
            result.add("video", try video(frames, format, metadata, task, after: read, of: total))
        }
        result.add("contact_sheet", try Self.contactSheet(frames))
        let middle = frames.rows((frames.shape[0] / 2)..<(frames.shape[0] / 2 + 1))
        let thumbnail = try JPEGEncoder.encode(middle.reshaped(Array(frames.shape.dropFirst())))
        result.add("thumbnail", Tensor(bytes: thumbnail))
        task.report(step: total, of: total)
        return result
    }

    package func follow(_ assistance: StageAssistance) async throws(Failure) {
        let parameters = try CanonicalJSON.decode(MuxParameters.self, from: assistance.parameters)
        let format = try Self.format(parameters), job = EncodedClips.job(of: assistance.task)
        guard parameters.tiles == nil, !format.container.hasPalette else {
            throw Failure(
                "assistance_unsupported", "a \(format.container.rawValue) is not encoded frame by frame",
                retry: .otherWorker)
        }
        clips.begin(job: job)
        defer { clips.end(job: job) }
        let receiver = FrameReceiver(assistance)
        while true {
            let shape = try receiver.nextClip()
            do throws(Failure) {
                try encode(receiver, shape, format)
            } catch {
                // The clip was begun again.
                guard error.code == "assistance_round_over" else { throw error }
            }
        }
    }

    private func encode(_ receiver: FrameReceiver, _ shape: ClipShape, _ format: Format) throws(Failure) {
        let encoder = try VideoEncoder(
            container: format.container, width: shape.width, height: shape.height, framesPerSecond: format.rate,
            threads: threads)
        var digest = DigestHasher()
        while let frames = try receiver.nextFrames() {
            frames.withUnsafeBytes { digest.update($0) }
            try encoder.append(frames: frames)
        }
        let key = EncodedClips.Key(
            frames: digest.finalize(), shape: shape, container: format.container, rate: format.rate)
        clips.keep(try encoder.finish(), as: key)
    }

    private typealias Format = (container: VideoContainer, rate: FrameRate)

    private static func format(_ parameters: MuxParameters) throws(Failure) -> Format {
        guard let container = VideoContainer(rawValue: parameters.container.rawValue) else {
            throw Failure(
                "container_unknown", "no encoder for \(parameters.container.rawValue)", field: "container",
                remedy: "Use \(VideoContainer.allCases.map(\.rawValue).joined(separator: ", ")).")
        }
        guard let rate = FrameRate(numerator: parameters.framesPerSecond) else {
            throw Failure(
                "frame_rate_invalid", "\(parameters.framesPerSecond) frames per second", field: "fps",
                remedy: "Use a whole number from 1 on.")
        }
        return (container, rate)
    }

    private func video(
        _ encoded: EncodedVideo, _ metadata: [String: String], _ task: StageTask
    ) throws(Failure) -> Tensor {
        task.log("\(encoded.frameCount) frames were encoded while they were decoded")
        let folder = try ScratchFolder()
        defer { folder.remove() }
        let path = folder.path("video.\(encoded.container.fileExtension)")
        try encoded.write(path: path, metadata: metadata)
        return try folder.read(path)
    }

    /// Encoders write files, so the video is made in a temporary folder of its own and read back.
    private func video(
        _ frames: Tensor, _ format: Format, _ metadata: [String: String], _ task: StageTask, after read: Int,
        of total: Int
    ) throws(Failure) -> Tensor {
        let folder = try ScratchFolder()
        defer { folder.remove() }
        let path = folder.path("video.\(format.container.fileExtension)")
        let writer = try VideoWriter(
            path: path, container: format.container, width: frames.shape[2], height: frames.shape[1],
            framesPerSecond: format.rate, metadata: metadata, threads: threads)
        for frame in 0..<frames.shape[0] {
            try task.checkCancelled()
            try writer.append(frames: frames.rows(frame..<(frame + 1)))
            task.report(step: read + frame + 1, of: total)
        }
        try writer.finish()
        return try folder.read(path)
    }

    /// `title` is the prompt; `comment` the manifest, from which the video can be made again.
    private func metadata(
        _ frames: Digest, _ parameters: MuxParameters, _ task: StageTask
    ) async throws(Failure) -> [String: String] {
        let prompt = try await task.optionalInput("prompt", .bytes).map { bytes in
            bytes.withUnsafeBytes { String(decoding: $0, as: UTF8.self) }
        }
        let arithmetic = task.origins.filter { !$0.numerics.isEmpty }.map { origin in
            (origin.task, VideoManifest.Arithmetic(name: origin.numerics, mixed: origin.isMixed ? true : nil))
        }
        // Tiles that were asked for have tasks of their own, each by one decoder.
        let decode =
            parameters.tiles == nil
            ? task.origins.first { $0.task == VideoManifest.decodeTask }.map { DecodeManner(text: $0.manner) }
            : .asAsked
        let manifest = VideoManifest(
            parameters, prompt: prompt, decode: decode, arithmetic: Dictionary(arithmetic) { $1 },
            libraries: MediaLibraries.versions, framesDigest: frames.description, version: ServiceVersion.current)
        return ["title": manifest.request.prompt, "comment": try manifest.encoded()]
    }

    /// Twelve frames at most, four in a row, each about 384 pixels wide but no more than twice its size.
    private static func contactSheet(_ frames: Tensor) throws(Failure) -> Tensor {
        let scale = min(2, 384 / Double(frames.shape[2]))
        return Tensor(bytes: try PNGWriter.encode(try ContactSheet.render(frames: frames, scale: scale)))
    }
}
