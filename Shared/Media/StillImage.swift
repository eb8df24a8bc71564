import CFFmpeg
package import Failure
package import Tensor

/// Encodes a uint8 RGB picture `[H, W, 3]` as PNG, losslessly.
package enum PNGWriter {
    /// The file's bytes. Errors: `frames_shape_invalid`, `encoder_missing`.
    package static func encode(_ picture: Tensor) throws(Failure) -> [UInt8] {
        try encodeStill(picture, encoder: "png", format: AV_PIX_FMT_RGB24, options: ["pred": "mixed"]) { _ in }
    }

    /// Writes the file. Errors: also `image_write_failed`.
    package static func write(_ picture: Tensor, path: String) throws(Failure) {
        try replaceFile(path, with: try encode(picture), code: "image_write_failed")
    }
}

/// Encodes a uint8 RGB picture `[H, W, 3]` as JPEG (4:2:0), for previews and thumbnails.
package enum JPEGEncoder {
    /// The file's bytes; `quality` goes from 2 (best) to 31. Errors: `frames_shape_invalid`, `encoder_missing`.
    package static func encode(_ picture: Tensor, quality: Int = 4) throws(Failure) -> [UInt8] {
        let lambda = zt_quality_to_lambda(Int32(min(max(quality, 2), 31)))
        return try encodeStill(picture, encoder: "mjpeg", format: AV_PIX_FMT_YUVJ420P, options: [:]) { context in
            context.pointee.flags |= zt_codec_flag_fixed_quality()
            context.pointee.global_quality = lambda
            context.pointee.color_range = AVCOL_RANGE_JPEG
        }
    }
}

private func encodeStill(
    _ picture: Tensor, encoder name: String, format: AVPixelFormat, options: [String: String],
    _ configure: (UnsafeMutablePointer<AVCodecContext>) -> Void
) throws(Failure) -> [UInt8] {
    FFmpegLog.begin()
    try requirePicture(picture)
    let (height, width) = (picture.shape[0], picture.shape[1])
    let source = try PictureBuffer(width: width, height: height, format: AV_PIX_FMT_RGB24)
    picture.withUnsafeBytes { source.load($0) }
    let encoder = try Encoder(name: name, options: options) { context in
        context.pointee.width = Int32(width)
        context.pointee.height = Int32(height)
        context.pointee.pix_fmt = format
        context.pointee.time_base = AVRational(num: 1, den: 1)
        context.pointee.thread_count = 1
        configure(context)
    }
    var coded = source
    if format != AV_PIX_FMT_RGB24 {
        coded = try PictureBuffer(width: width, height: height, format: format)
        let size = (Int32(width), Int32(height))
        let coding = PictureConverter.Coding(matrix: SWS_CS_ITU601, isFullRange: true)
        try PictureConverter(
            from: (size.0, size.1, AV_PIX_FMT_RGB24), to: (size.0, size.1, format), coding: coding
        ).convert(source.frame, into: coded.frame)
        coded.frame.pointee.quality = encoder.context.pointee.global_quality
    }
    coded.frame.pointee.pts = 0
    var bytes: [UInt8] = []
    for frame in [coded.frame, nil] {
        try encoder.encode(frame) { packet in
            bytes += UnsafeBufferPointer(start: packet.pointee.data, count: Int(packet.pointee.size))
        }
    }
    return bytes
}
