package import Failure
import CFFmpeg
import Glibc
package import Tensor

/// Writes uint8 RGB frames to a video file.
///
/// The file grows under a temporary name beside its path and is renamed when complete, so that nobody sees half a
/// video; a writer that is dropped before `finish` removes it. 4:2:0 codecs are tagged BT.709, limited range.
package final class VideoWriter {
    package let path: String
    package let container: VideoContainer
    package let width: Int
    package let height: Int
    /// Frames appended so far.
    package private(set) var frameCount = 0

    private let temporaryPath: String
    private let rate: FrameRate
    private let metadata: [String: String]
    private let muxer: Muxer
    private let picture: PictureBuffer
    private let coded: PictureBuffer
    private let converter: PictureConverter?
    /// GIF only: frames wait here until the palette of the whole video is known.
    private var waiting: [Tensor] = []
    private var isFinished = false

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
        FFmpegLog.begin()
        try Self.check(container, width, height, rate)
        self.path = path
        self.container = container
        self.width = width
        self.height = height
        self.rate = rate
        self.metadata = metadata
        let temporary = temporaryPath ?? temporaryName(beside: path)
        self.temporaryPath = temporary

        let format = Self.pixelFormat(container)
        picture = try PictureBuffer(width: width, height: height, format: AV_PIX_FMT_RGB24)
        coded = try PictureBuffer(width: width, height: height, format: format)
        let size = (Int32(width), Int32(height))
        converter =
            container == .gif
            ? nil : try PictureConverter(from: (size.0, size.1, AV_PIX_FMT_RGB24), to: (size.0, size.1, format))
        let encoder = try Self.encoder(container, size, rate, threads: threads, quality: quality)
        do {
            muxer = try Muxer(path: temporary, container: container, encoder: encoder, rate: rate, metadata: metadata)
        } catch {
            removeFile(temporary)
            throw error
        }
        if container.hasSubsampledChroma { Self.tagBT709(coded.frame) }
    }

    deinit { if !isFinished { removeFile(temporaryPath) } }

    /// Appends frames `[t, height, width, 3]`, uint8 RGB. Errors: `frames_shape_invalid`, `video_encode_failed`,
    /// `video_write_failed`.
    package func append(frames: Tensor) throws(Failure) {
        precondition(!isFinished, "a finished video takes no more frames")
        guard frames.dtype == .uint8, frames.shape.count == 4, Array(frames.shape.dropFirst()) == [height, width, 3]
        else {
            throw Failure(
                "frames_shape_invalid",
                "Frames are \(frames.dtype) \(frames.shape), but this video takes uint8 [t, \(height), \(width), 3].",
                field: "frames")
        }
        FFmpegLog.begin()
        if container == .gif {
            waiting.append(frames)
            frameCount += frames.shape[0]
            return
        }
        for index in 0..<frames.shape[0] {
            frames.rows(index..<(index + 1)).withUnsafeBytes { picture.load($0) }
            try coded.prepareForWriting()
            converter?.convert(picture.frame, into: coded.frame)
            coded.frame.pointee.pts = Int64(frameCount)
            try muxer.write(coded.frame)
            frameCount += 1
        }
    }

    /// Completes the file and gives it its name. A video without frames is `video_empty`.
    package func finish() throws(Failure) {
        precondition(!isFinished, "a video is finished once")
        guard frameCount > 0 else {
            throw Failure("video_empty", "No frame was given for \(path).", field: "frames")
        }
        FFmpegLog.begin()
        if container == .gif { try writeGIF() }
        try muxer.finish()
        if container == .gif, let comment = metadata["comment"] ?? metadata["title"] {
            try GIFComment.insert(comment, into: temporaryPath)
        }
        guard rename(temporaryPath, path) == 0 else {
            let reason = String(cString: strerror(errno))
            throw Failure(
                "video_write_failed", "The finished video cannot be renamed to \(path): \(reason).", field: "output",
                remedy: "Check that the folder exists and may be written.")
        }
        isFinished = true
    }

    private func writeGIF() throws(Failure) {
        let palette = ColorPalette(of: waiting)
        let ticks = 100 / rate.framesPerSecond
        let lastDelay = (Double(frameCount) * ticks).rounded() - (Double(frameCount - 1) * ticks).rounded()
        muxer.setOption("final_delay", Int64(lastDelay))
        var index = 0
        for frames in waiting {
            for row in 0..<frames.shape[0] {
                try coded.prepareForWriting()
                let frame = coded.frame
                frames.rows(row..<(row + 1)).withUnsafeBytes { bytes in
                    palette.apply(bytes, width: width, height: height, to: frame)
                }
                frame.pointee.pts = Int64(index)
                try muxer.write(frame)
                index += 1
            }
        }
        waiting = []
    }
}

// MARK: Set-up

extension VideoWriter {
    private static func check(
        _ container: VideoContainer, _ width: Int, _ height: Int, _ rate: FrameRate
    ) throws(Failure) {
        let multiple = container.hasSubsampledChroma ? 2 : 1
        guard (1...16_384).contains(width), (1...16_384).contains(height), width % multiple == 0, height % multiple == 0
        else {
            let even = multiple == 2 ? ", both even" : ""
            throw Failure(
                "video_size_invalid", "A \(container.rawValue) of \(width)×\(height) pixels cannot be made.",
                field: "width",
                remedy: "Width and height go from 1 to 16384\(even).")
        }
        let limit = container == .gif ? 50.0 : 1000.0
        guard rate.framesPerSecond <= limit, rate.framesPerSecond >= 0.01 else {
            throw Failure(
                "frame_rate_invalid", "A \(container.rawValue) cannot show \(rate) frames per second.", field: "fps",
                remedy: "Choose from 0.01 to \(limit).")
        }
    }

    private static func pixelFormat(_ container: VideoContainer) -> AVPixelFormat {
        switch container {
        case .mp4, .webm: AV_PIX_FMT_YUV420P
        case .gif: AV_PIX_FMT_PAL8
        case .mkv: AV_PIX_FMT_BGR0
        }
    }

    private static func encoder(
        _ container: VideoContainer, _ size: (Int32, Int32), _ rate: FrameRate, threads: Int, quality: Int?
    ) throws(Failure) -> Encoder {
        let needsGlobalHeader = container != .gif
        return try Encoder(name: container.encoderName, options: container.encoderOptions(quality: quality)) {
            context in
            context.pointee.width = size.0
            context.pointee.height = size.1
            context.pointee.pix_fmt = pixelFormat(container)
            context.pointee.time_base = AVRational(num: rate.denominator, den: rate.numerator)
            context.pointee.framerate = AVRational(num: rate.numerator, den: rate.denominator)
            context.pointee.sample_aspect_ratio = AVRational(num: 1, den: 1)
            context.pointee.thread_count = Int32(clamping: threads)
            if needsGlobalHeader { context.pointee.flags |= zt_codec_flag_global_header() }
            if container.hasSubsampledChroma {
                context.pointee.colorspace = AVCOL_SPC_BT709
                context.pointee.color_primaries = AVCOL_PRI_BT709
                context.pointee.color_trc = AVCOL_TRC_BT709
                context.pointee.color_range = AVCOL_RANGE_MPEG
                context.pointee.chroma_sample_location = AVCHROMA_LOC_LEFT
            }
        }
    }

    private static func tagBT709(_ frame: UnsafeMutablePointer<AVFrame>) {
        frame.pointee.colorspace = AVCOL_SPC_BT709
        frame.pointee.color_primaries = AVCOL_PRI_BT709
        frame.pointee.color_trc = AVCOL_TRC_BT709
        frame.pointee.color_range = AVCOL_RANGE_MPEG
    }
}
