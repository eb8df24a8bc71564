import CFFmpeg
package import Failure

/// What a video file says about itself.
package struct MediaProbe: Sendable, Hashable {
    /// FFmpeg's name of the codec: `h264`, `vp9`, `gif`, `ffv1`.
    package var codec: String
    /// FFmpeg's name of the pixel format: `yuv420p`, `bgr0`, …
    package var pixelFormat: String
    package var width: Int
    package var height: Int
    /// The average frame rate; nil when the file does not tell.
    package var framesPerSecond: FrameRate?
    /// Packets of the video stream, one a frame in the containers that are written here.
    package var frameCount: Int
    /// Seconds.
    package var duration: Double
    /// The container's tags; keys in lower case.
    package var metadata: [String: String]

    /// Reads the headers and counts the frames without decoding. Errors: `unreadable_media`.
    package init(path: String) throws(Failure) {
        let file = try MediaFile(path: path)
        let parameters = file.stream.pointee.codecpar.pointee
        codec = avcodec_get_name(parameters.codec_id).map { String(cString: $0) } ?? "unknown"
        pixelFormat =
            av_get_pix_fmt_name(AVPixelFormat(rawValue: parameters.format)).map { String(cString: $0) } ?? "unknown"
        width = Int(parameters.width)
        height = Int(parameters.height)
        let rate = file.stream.pointee.avg_frame_rate
        framesPerSecond = FrameRate(numerator: Int(rate.num), denominator: Int(rate.den))
        duration = Double(max(file.context.pointee.duration, 0)) / Double(AV_TIME_BASE)
        metadata = [:]
        var entry: UnsafeMutablePointer<AVDictionaryEntry>?
        while let next = av_dict_get(file.context.pointee.metadata, "", entry, AV_DICT_IGNORE_SUFFIX) {
            metadata[String(cString: next.pointee.key).lowercased()] = String(cString: next.pointee.value)
            entry = next
        }
        let buffer = try PacketBuffer()
        frameCount = 0
        while try file.read(buffer.packet) {
            frameCount += 1
            av_packet_unref(buffer.packet)
        }
    }
}
