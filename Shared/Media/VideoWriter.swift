package import Failure
import Glibc
package import Tensor

/// Writes uint8 RGB frames to a video file.
///
/// The file grows under a temporary name beside its path and is renamed when complete, so that nobody sees half a
/// video; a writer that is dropped before `finish` removes it.
package final class VideoWriter {
    package let path: String
    private let temporaryPath: String
    private let metadata: [String: String]
    private let frameEncoder: FrameEncoder
    private let muxer: Muxer
    /// GIF only: frames wait here until the palette of the whole video is known.
    private var waiting: [Tensor] = []
    private var isFinished = false

    package var container: VideoContainer { frameEncoder.container }
    package var width: Int { frameEncoder.width }
    package var height: Int { frameEncoder.height }
    /// Frames appended so far.
    package var frameCount: Int { frameEncoder.frameCount + waiting.reduce(0) { $0 + $1.shape[0] } }

    /// Opens the file.
    ///
    /// - Parameters:
    ///   - metadata: lower-case keys; `title` and `comment` are shown by players. mkv, webm and mp4 keep every key; a
    ///     GIF keeps the comment.
    ///   - threads: of the encoder; 0 leaves the choice to it.
    ///   - quality: constant rate factor of H.264 (default 18) or VP9 (default 24).
    ///   - temporaryPath: the name to write under; by default a hidden one beside `path`.
    /// - Throws: `video_size_invalid`, `frame_rate_invalid`, `encoder_missing`, `video_encode_failed`,
    ///   `video_write_failed`.
    package init(
        path: String, container: VideoContainer, width: Int, height: Int, framesPerSecond rate: FrameRate,
        metadata: [String: String] = [:], threads: Int = 0, quality: Int? = nil, temporaryPath: String? = nil
    ) throws(Failure) {
        let frameEncoder = try FrameEncoder(
            container: container, width: width, height: height, framesPerSecond: rate, threads: threads,
            quality: quality)
        self.frameEncoder = frameEncoder
        self.path = path
        self.metadata = metadata
        let temporary = temporaryPath ?? temporaryName(beside: path)
        self.temporaryPath = temporary
        do {
            muxer = try Muxer(
                path: temporary, container: container, stream: try CodedStream(frameEncoder.encoder), rate: rate,
                metadata: metadata)
        } catch {
            removeFile(temporary)
            throw error
        }
    }

    deinit { if !isFinished { removeFile(temporaryPath) } }

    /// Appends frames `[t, height, width, 3]`, uint8 RGB. Errors: `frames_shape_invalid`, `video_encode_failed`,
    /// `video_write_failed`.
    package func append(frames: Tensor) throws(Failure) {
        precondition(!isFinished, "a finished video takes no more frames")
        try frameEncoder.check(frames)
        FFmpegLog.begin()
        if container.hasPalette {
            waiting.append(frames)
        } else {
            try frameEncoder.encode(frames) { packet throws(Failure) in try muxer.write(packet) }
        }
    }

    /// Completes the file and gives it its name. A video without frames is `video_empty`.
    package func finish() throws(Failure) {
        precondition(!isFinished, "a video is finished once")
        guard frameCount > 0 else {
            throw Failure("video_empty", "No frame was given for \(path).", field: "frames")
        }
        FFmpegLog.begin()
        if container.hasPalette { try encodeWithPalette() }
        try frameEncoder.finish { packet throws(Failure) in try muxer.write(packet) }
        try muxer.finish()
        if container == .gif, let comment = metadata["comment"] ?? metadata["title"] {
            try GIFComment.insert(comment, into: temporaryPath)
        }
        try complete(temporaryPath, path)
        isFinished = true
    }

    private func encodeWithPalette() throws(Failure) {
        let palette = ColorPalette(of: waiting), count = frameCount
        let ticks = 100 / frameEncoder.rate.framesPerSecond
        let lastDelay = (Double(count) * ticks).rounded() - (Double(count - 1) * ticks).rounded()
        muxer.setOption("final_delay", Int64(lastDelay))
        for frames in waiting {
            try frameEncoder.encode(frames, palette: palette) { packet throws(Failure) in try muxer.write(packet) }
        }
        waiting = []
    }
}

/// Gives a finished file its name.
func complete(_ temporaryPath: String, _ path: String) throws(Failure) {
    guard rename(temporaryPath, path) == 0 else {
        let reason = String(cString: strerror(errno))
        throw Failure(
            "video_write_failed", "The finished video cannot be renamed to \(path): \(reason).", field: "output",
            remedy: "Check that the folder exists and may be written.")
    }
}
