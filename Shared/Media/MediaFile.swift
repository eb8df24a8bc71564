import CFFmpeg
import Failure

/// A media file opened for reading, at its first video stream.
final class MediaFile {
    let context: UnsafeMutablePointer<AVFormatContext>
    let stream: UnsafeMutablePointer<AVStream>
    let path: String

    /// Errors: `unreadable_media` naming the path.
    init(path: String) throws(Failure) {
        FFmpegLog.begin()
        self.path = path
        var opened: UnsafeMutablePointer<AVFormatContext>?
        let status = avformat_open_input(&opened, "file:" + path, nil, nil)
        guard status >= 0, let context = opened else { throw Self.failure(status, path) }
        func close() { avformat_close_input(&opened) }
        let found = avformat_find_stream_info(context, nil)
        guard found >= 0 else {
            close()
            throw Self.failure(found, path)
        }
        let index = av_find_best_stream(context, AVMEDIA_TYPE_VIDEO, -1, -1, nil, 0)
        guard index >= 0, let stream = context.pointee.streams[Int(index)] else {
            close()
            throw Self.failure(index, path)
        }
        self.context = context
        self.stream = stream
    }

    deinit {
        var context: UnsafeMutablePointer<AVFormatContext>? = context
        avformat_close_input(&context)
    }

    /// The next packet of the video stream; false at the end of the file.
    func read(_ packet: UnsafeMutablePointer<AVPacket>) throws(Failure) -> Bool {
        while true {
            let status = av_read_frame(context, packet)
            if status == zt_error_end_of_file() { return false }
            guard status >= 0 else { throw Self.failure(status, path) }
            if packet.pointee.stream_index == stream.pointee.index { return true }
            av_packet_unref(packet)
        }
    }

    static func failure(_ status: Int32, _ path: String) -> Failure {
        mediaFailure("unreadable_media", status, "Reading \(path)", field: "path")
    }
}

/// A packet that is freed with its owner.
final class PacketBuffer {
    let packet: UnsafeMutablePointer<AVPacket>

    init() throws(Failure) {
        guard let packet = av_packet_alloc() else { throw outOfMemory() }
        self.packet = packet
    }

    deinit {
        var packet: UnsafeMutablePointer<AVPacket>? = packet
        av_packet_free(&packet)
    }
}
