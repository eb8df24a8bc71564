import CFFmpeg
import Failure
import Tensor

/// Encodes uint8 RGB frames with the codec of a container, one stream, packet by packet. 4:2:0 codecs are tagged BT.709,
/// limited range.
final class FrameEncoder {
    let container: VideoContainer
    let width: Int
    let height: Int
    let rate: FrameRate
    let encoder: Encoder
    /// Frames encoded so far.
    private(set) var frameCount = 0

    private let picture: PictureBuffer
    private let coded: PictureBuffer
    private let converter: PictureConverter?

    /// Opens the encoder; parameters and errors are those of `VideoWriter`.
    init(
        container: VideoContainer, width: Int, height: Int, framesPerSecond rate: FrameRate, threads: Int,
        quality: Int? = nil
    ) throws(Failure) {
        FFmpegLog.begin()
        try Self.check(container, width, height, rate)
        self.container = container
        self.width = width
        self.height = height
        self.rate = rate
        let format = Self.pixelFormat(container)
        picture = try PictureBuffer(width: width, height: height, format: AV_PIX_FMT_RGB24)
        coded = try PictureBuffer(width: width, height: height, format: format)
        let size = (Int32(width), Int32(height))
        converter =
            container.hasPalette
            ? nil : try PictureConverter(from: (size.0, size.1, AV_PIX_FMT_RGB24), to: (size.0, size.1, format))
        encoder = try Self.encoder(container, size, rate, threads: threads, quality: quality)
        if container.hasSubsampledChroma { Self.tagBT709(coded.frame) }
    }

    /// Checks that frames are `[t, height, width, 3]`, uint8. Fails with `frames_shape_invalid`.
    func check(_ frames: Tensor) throws(Failure) {
        guard frames.dtype == .uint8, frames.shape.count == 4, Array(frames.shape.dropFirst()) == [height, width, 3]
        else {
            throw Failure(
                "frames_shape_invalid",
                "Frames are \(frames.dtype) \(frames.shape), but this video takes uint8 [t, \(height), \(width), 3].",
                field: "frames")
        }
    }

    /// Encodes the frames and hands over every packet that is ready.
    ///
    /// - Parameter palette: of the whole video, for codecs that have one.
    func encode(
        _ frames: Tensor, palette: ColorPalette? = nil,
        _ receive: (UnsafeMutablePointer<AVPacket>) throws(Failure) -> Void
    ) throws(Failure) {
        for index in 0..<frames.shape[0] {
            try coded.prepareForWriting()
            let frame = coded.frame
            if let palette {
                frames.rows(index..<(index + 1)).withUnsafeBytes { bytes in
                    palette.apply(bytes, width: width, height: height, to: frame)
                }
            } else {
                frames.rows(index..<(index + 1)).withUnsafeBytes { picture.load($0) }
                converter?.convert(picture.frame, into: frame)
            }
            frame.pointee.pts = Int64(frameCount)
            try encoder.encode(frame, receive)
            frameCount += 1
        }
    }

    /// Ends the stream and hands over the packets that the encoder had kept back.
    func finish(_ receive: (UnsafeMutablePointer<AVPacket>) throws(Failure) -> Void) throws(Failure) {
        try encoder.encode(nil, receive)
    }
}

// MARK: Set-up

extension FrameEncoder {
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
