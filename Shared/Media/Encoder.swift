import CFFmpeg
import Failure

/// An opened video encoder.
final class Encoder {
    let context: UnsafeMutablePointer<AVCodecContext>
    private let packet: UnsafeMutablePointer<AVPacket>

    /// Opens the encoder called `name` after `configure` has set its fields. An absent one is `encoder_missing`.
    init(
        name: String, options: [String: String], _ configure: (UnsafeMutablePointer<AVCodecContext>) -> Void
    ) throws(Failure) {
        guard let codec = avcodec_find_encoder_by_name(name) else {
            throw Failure(
                "encoder_missing", "This FFmpeg was built without the encoder \(name).", field: "container",
                remedy: "Install an FFmpeg with \(name), or choose another container.")
        }
        guard let context = avcodec_alloc_context3(codec) else { throw outOfMemory() }
        var unopened: UnsafeMutablePointer<AVCodecContext>? = context
        guard let packet = av_packet_alloc() else {
            avcodec_free_context(&unopened)
            throw outOfMemory()
        }
        self.context = context
        self.packet = packet
        configure(context)
        try withOptions(options) { dictionary throws(Failure) in
            let status = avcodec_open2(context, codec, &dictionary)
            guard status >= 0 else { throw mediaFailure("video_encode_failed", status, "Opening the encoder \(name)") }
        }
    }

    deinit {
        var context: UnsafeMutablePointer<AVCodecContext>? = context
        var packet: UnsafeMutablePointer<AVPacket>? = packet
        avcodec_free_context(&context)
        av_packet_free(&packet)
    }

    /// Sends a picture (nil ends the stream) and hands over every packet that is ready.
    func encode(
        _ frame: UnsafeMutablePointer<AVFrame>?, _ receive: (UnsafeMutablePointer<AVPacket>) throws(Failure) -> Void
    ) throws(Failure) {
        let sent = avcodec_send_frame(context, frame)
        guard sent >= 0 else { throw mediaFailure("video_encode_failed", sent, "Encoding a frame") }
        while true {
            let status = avcodec_receive_packet(context, packet)
            if status == zt_error_try_again() || status == zt_error_end_of_file() { return }
            guard status >= 0 else { throw mediaFailure("video_encode_failed", status, "Encoding a frame") }
            defer { av_packet_unref(packet) }
            try receive(packet)
        }
    }
}
