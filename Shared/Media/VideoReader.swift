import CFFmpeg
package import Failure
package import Tensor

/// Decodes a video file to uint8 RGB.
package final class VideoReader {
    private let file: MediaFile
    private let decoder: UnsafeMutablePointer<AVCodecContext>
    private let packet: PacketBuffer
    private let decoded: UnsafeMutablePointer<AVFrame>
    private var converter: PictureConverter?
    private var picture: PictureBuffer?
    private var isDraining = false

    package var width: Int { Int(file.stream.pointee.codecpar.pointee.width) }
    package var height: Int { Int(file.stream.pointee.codecpar.pointee.height) }

    /// Errors: `unreadable_media`.
    package init(path: String) throws(Failure) {
        let file = try MediaFile(path: path)
        let parameters = file.stream.pointee.codecpar
        guard let codec = avcodec_find_decoder(file.stream.pointee.codecpar.pointee.codec_id) else {
            throw Failure("unreadable_media", "This FFmpeg cannot decode \(path).", field: "path")
        }
        packet = try PacketBuffer()
        guard let decoder = avcodec_alloc_context3(codec), let decoded = av_frame_alloc() else { throw outOfMemory() }
        self.file = file
        self.decoder = decoder
        self.decoded = decoded
        avcodec_parameters_to_context(decoder, parameters)
        let status = avcodec_open2(decoder, codec, nil)
        guard status >= 0 else { throw MediaFile.failure(status, path) }
    }

    deinit {
        var decoder: UnsafeMutablePointer<AVCodecContext>? = decoder
        var decoded: UnsafeMutablePointer<AVFrame>? = decoded
        avcodec_free_context(&decoder)
        av_frame_free(&decoded)
    }

    /// The next frame `[height, width, 3]`, nil at the end. Errors: `unreadable_media`.
    package func nextFrame() throws(Failure) -> Tensor? {
        while true {
            let status = avcodec_receive_frame(decoder, decoded)
            if status == zt_error_end_of_file() { return nil }
            if status >= 0 {
                defer { av_frame_unref(decoded) }
                return try convertedFrame()
            }
            guard status == zt_error_try_again(), !isDraining else { throw MediaFile.failure(status, file.path) }
            let hasPacket = try file.read(packet.packet)
            isDraining = !hasPacket
            let sent = avcodec_send_packet(decoder, hasPacket ? packet.packet : nil)
            if hasPacket { av_packet_unref(packet.packet) }
            guard sent >= 0 else { throw MediaFile.failure(sent, file.path) }
        }
    }

    /// The remaining frames `[t, height, width, 3]`, at most `maximum`.
    package func frames(maximum: Int = .max) throws(Failure) -> Tensor {
        var frames: [Tensor] = []
        while frames.count < maximum, let frame = try nextFrame() { frames.append(frame.reshaped([1] + frame.shape)) }
        return frames.isEmpty ? Tensor(zeros: [0, height, width, 3], dtype: .uint8) : Tensor.concatenated(frames)
    }

    private func convertedFrame() throws(Failure) -> Tensor {
        let (frameWidth, frameHeight) = (decoded.pointee.width, decoded.pointee.height)
        guard Int(frameWidth) == width, Int(frameHeight) == height else {
            throw Failure("unreadable_media", "\(file.path) changes its picture size.", field: "path")
        }
        if converter == nil {
            let isBT709 = decoded.pointee.colorspace == AVCOL_SPC_BT709
            let coding = PictureConverter.Coding(
                matrix: isBT709 ? SWS_CS_ITU709 : SWS_CS_DEFAULT,
                isFullRange: decoded.pointee.color_range == AVCOL_RANGE_JPEG)
            converter = try PictureConverter(
                from: (frameWidth, frameHeight, AVPixelFormat(rawValue: decoded.pointee.format)),
                to: (frameWidth, frameHeight, AV_PIX_FMT_RGB24), coding: coding)
            picture = try PictureBuffer(width: width, height: height, format: AV_PIX_FMT_RGB24)
        }
        guard let converter, let picture else { throw outOfMemory() }
        converter.convert(decoded, into: picture.frame)
        var result = Tensor(uninitialized: [height, width, 3], dtype: .uint8)
        result.withUnsafeMutableBytes { picture.store($0) }
        return result
    }
}
