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
package struct VideoMuxerHandler: StageHandler {
    package let stage = StageName.videoMuxer.rawValue
    package let modelDigest = ""
    package let numerics = ""
    package let memoryPlan = MemoryPlan([
        "frames of a clip of 49×480×720": 51_000_000, "tiles while they are joined": 250_000_000,
    ])
    private let threads: Int

    /// - Parameter threads: of the video encoder; 0 lets it choose.
    package init(threads: Int) { self.threads = threads }

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
        let metadata = try await metadata(frames, parameters, task)
        result.add("video", try video(frames, parameters, metadata, task, after: read, of: total))
        result.add("contact_sheet", try Self.contactSheet(frames))
        let middle = frames.rows((frames.shape[0] / 2)..<(frames.shape[0] / 2 + 1))
        let thumbnail = try JPEGEncoder.encode(middle.reshaped(Array(frames.shape.dropFirst())))
        result.add("thumbnail", Tensor(bytes: thumbnail))
        task.report(step: total, of: total)
        return result
    }

    /// Encoders write files, so the video is made in a temporary folder of its own and read back.
    private func video(
        _ frames: Tensor, _ parameters: MuxParameters, _ metadata: [String: String], _ task: StageTask, after read: Int,
        of total: Int
    ) throws(Failure) -> Tensor {
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
        let folder = try ScratchFolder()
        defer { folder.remove() }
        let path = folder.path("video.\(container.fileExtension)")
        let writer = try VideoWriter(
            path: path, container: container, width: frames.shape[2], height: frames.shape[1],
            framesPerSecond: rate, metadata: metadata, threads: threads)
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
        _ frames: Tensor, _ parameters: MuxParameters, _ task: StageTask
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
            libraries: MediaLibraries.versions,
            framesDigest: frames.withUnsafeBytes { Digest.of($0) }.description, version: ServiceVersion.current)
        return ["title": manifest.request.prompt, "comment": try manifest.encoded()]
    }

    /// Twelve frames at most, four in a row, each about 384 pixels wide but no more than twice its size.
    private static func contactSheet(_ frames: Tensor) throws(Failure) -> Tensor {
        let scale = min(2, 384 / Double(frames.shape[2]))
        return Tensor(bytes: try PNGWriter.encode(try ContactSheet.render(frames: frames, scale: scale)))
    }
}
