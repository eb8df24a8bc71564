import CFFmpeg
import Failure

/// What a container must know of a coded stream: the codec's parameters, and the clock of its packets.
final class CodedStream {
    let parameters: UnsafeMutablePointer<AVCodecParameters>
    let timeBase: AVRational

    /// Of an opened encoder.
    init(_ encoder: Encoder) throws(Failure) {
        guard let parameters = avcodec_parameters_alloc() else { throw outOfMemory() }
        self.parameters = parameters
        timeBase = encoder.context.pointee.time_base
        let copied = avcodec_parameters_from_context(parameters, encoder.context)
        guard copied >= 0 else { throw mediaFailure("video_encode_failed", copied, "Describing the stream") }
    }

    deinit {
        var parameters: UnsafeMutablePointer<AVCodecParameters>? = parameters
        avcodec_parameters_free(&parameters)
    }
}

/// A container file being written: one stream of packets.
final class Muxer {
    private let context: UnsafeMutablePointer<AVFormatContext>
    private let stream: UnsafeMutablePointer<AVStream>
    private let timeBase: AVRational
    private let path: String

    /// Creates the file and writes its header. Errors: `video_write_failed`.
    init(
        path: String, container: VideoContainer, stream coded: CodedStream, rate: FrameRate,
        metadata: [String: String]
    ) throws(Failure) {
        self.path = path
        timeBase = coded.timeBase
        var created: UnsafeMutablePointer<AVFormatContext>?
        // The prefix keeps a colon in the path from reading as a protocol.
        let status = avformat_alloc_output_context2(&created, nil, container.muxerName, "file:" + path)
        guard status >= 0, let context = created else { throw Self.failure(status, path) }
        self.context = context
        guard let stream = avformat_new_stream(context, nil) else {
            avformat_free_context(context)
            throw outOfMemory()
        }
        self.stream = stream
        try open(coded, container, rate, metadata)
    }

    private func open(
        _ coded: CodedStream, _ container: VideoContainer, _ rate: FrameRate, _ metadata: [String: String]
    ) throws(Failure) {
        let copied = avcodec_parameters_copy(stream.pointee.codecpar, coded.parameters)
        guard copied >= 0 else { throw Self.failure(copied, path) }
        stream.pointee.time_base = coded.timeBase
        stream.pointee.avg_frame_rate = AVRational(num: rate.numerator, den: rate.denominator)
        stream.pointee.r_frame_rate = stream.pointee.avg_frame_rate
        for (key, value) in metadata { av_dict_set(&context.pointee.metadata, key, value, 0) }
        let opened = avio_open(&context.pointee.pb, context.pointee.url, AVIO_FLAG_WRITE)
        guard opened >= 0 else { throw Self.failure(opened, path) }
        try withOptions(container.muxerOptions(metadata: metadata, rate: rate)) { dictionary throws(Failure) in
            let status = avformat_write_header(context, &dictionary)
            guard status >= 0 else { throw Self.failure(status, path) }
        }
    }

    deinit {
        avio_closep(&context.pointee.pb)
        avformat_free_context(context)
    }

    /// Writes a packet, whose times count frames, and takes its contents.
    func write(_ packet: UnsafeMutablePointer<AVPacket>) throws(Failure) {
        // Encoders leave the duration open, and the last frame would then last no time.
        packet.pointee.duration = 1
        packet.pointee.stream_index = stream.pointee.index
        av_packet_rescale_ts(packet, timeBase, stream.pointee.time_base)
        let status = av_interleaved_write_frame(context, packet)
        guard status >= 0 else { throw Self.failure(status, path) }
    }

    /// Sets an option of the container format that it reads while writing.
    func setOption(_ name: String, _ value: Int64) { av_opt_set_int(context, name, value, AV_OPT_SEARCH_CHILDREN) }

    /// Completes the file and closes it. A full disk often shows only here.
    func finish() throws(Failure) {
        let status = av_write_trailer(context)
        guard status >= 0 else { throw Self.failure(status, path) }
        avio_flush(context.pointee.pb)
        let pending = context.pointee.pb.pointee.error
        guard pending >= 0 else { throw Self.failure(pending, path) }
        let closed = avio_closep(&context.pointee.pb)
        guard closed >= 0 else { throw Self.failure(closed, path) }
    }

    private static func failure(_ status: Int32, _ path: String) -> Failure {
        mediaFailure(
            "video_write_failed", status, "Writing \(path)", field: "output",
            remedy: "Check that the folder exists, may be written and has room.")
    }
}
