import CFFmpeg
import Failure
import Tensor

/// Decodes one picture of a still image file.
enum ImageDecoder {
    /// The first picture of `file`. Throws `decoder_missing`, `input_image_corrupt`.
    static func decode(
        _ file: Tensor, _ view: ByteView, _ header: ImageHeader, _ limits: InputLimits
    ) throws(Failure) -> DecodedFrame {
        FFmpegLog.begin()
        let format = header.format
        let packet = try PacketBuffer()
        // Every other format's decoder takes the whole file as one packet.
        var memory: MemoryFile?
        if format == .avif {
            memory = try demux(file, packet)
        } else {
            guard av_new_packet(packet.packet, Int32(clamping: view.count)) >= 0,
                let target = packet.packet.pointee.data, let source = view.bytes.baseAddress
            else { throw outOfMemory() }
            UnsafeMutableRawPointer(target).copyMemory(from: source, byteCount: view.count)
        }
        defer { withExtendedLifetime(memory) {} }

        let codec = try findDecoder(format)
        let parameters = memory.flatMap { $0.context.pointee.streams[0]?.pointee.codecpar }
        let decoder = try Decoder(codec, parameters, limits) { context in
            // Half a picture is no picture; but FFmpeg calls every TIFF tag that it does not know an error.
            context.pointee.err_recognition |= AV_EF_CRCCHECK | (format == .tiff ? 0 : AV_EF_EXPLODE)
            // The nearest to libjpeg's: one sample in eighty is one level off.
            if format == .jpeg { context.pointee.idct_algo = FF_IDCT_FAAN }
        }
        let frame = try DecodedFrame()
        var status = avcodec_send_packet(decoder.context, packet.packet)
        if status >= 0 { status = avcodec_receive_frame(decoder.context, frame.frame) }
        if status == zt_error_try_again() {
            avcodec_send_packet(decoder.context, nil)
            status = avcodec_receive_frame(decoder.context, frame.frame)
        }
        guard status >= 0 else {
            throw mediaFailure(
                "input_image_corrupt", status, "Decoding the \(format.rawValue)", field: "image",
                remedy: "The file is damaged or was cut off on its way: send it again, or save it anew.")
        }
        guard frame.frame.pointee.decode_error_flags == 0, frame.frame.pointee.flags & AV_FRAME_FLAG_CORRUPT == 0 else {
            throw ImageHeader.corrupt("Parts of this \(format.rawValue) could not be decoded. \(FFmpegLog.recent())")
        }
        return frame
    }

    private static func findDecoder(_ format: ImageFormat) throws(Failure) -> UnsafePointer<AVCodec> {
        for name in format.decoderNames {
            if let codec = avcodec_find_decoder_by_name(name) { return codec }
        }
        let names = format.decoderNames.joined(separator: " or ")
        throw Failure(
            "decoder_missing", "This FFmpeg was built without the decoder \(names).", field: "image",
            remedy: "Install an FFmpeg with \(names), or send another format, such as PNG.")
    }

    /// The primary picture's packet of an AVIF file.
    private static func demux(_ file: Tensor, _ packet: PacketBuffer) throws(Failure) -> MemoryFile {
        let memory = try MemoryFile(file, formats: "mov", codecs: "libdav1d,libaom-av1") { status in
            mediaFailure("input_image_corrupt", status, "Reading the avif", field: "image")
        }
        let status = av_read_frame(memory.context, packet.packet)
        guard status >= 0, memory.context.pointee.nb_streams > 0 else {
            throw mediaFailure("input_image_corrupt", status, "Reading the avif", field: "image")
        }
        guard packet.packet.pointee.flags & AV_PKT_FLAG_CORRUPT == 0 else {
            throw ImageHeader.corrupt("This AVIF is cut off.")
        }
        return memory
    }
}

/// A picture as a decoder made it.
final class DecodedFrame {
    let frame: UnsafeMutablePointer<AVFrame>

    var width: Int { Int(frame.pointee.width) }
    var height: Int { Int(frame.pointee.height) }

    init() throws(Failure) {
        guard let frame = av_frame_alloc() else { throw outOfMemory() }
        self.frame = frame
    }

    deinit {
        var frame: UnsafeMutablePointer<AVFrame>? = frame
        av_frame_free(&frame)
    }
}

/// An opened decoder on one thread.
final class Decoder {
    let context: UnsafeMutablePointer<AVCodecContext>

    /// Pictures of more pixels than allowed are refused by FFmpeg before it allocates them.
    /// Throws `decoder_missing` when the decoder cannot be opened.
    init(
        _ codec: UnsafePointer<AVCodec>, _ parameters: UnsafeMutablePointer<AVCodecParameters>?, _ limits: InputLimits,
        threads: Int = 1, _ configure: (UnsafeMutablePointer<AVCodecContext>) -> Void = { _ in }
    ) throws(Failure) {
        guard let context = avcodec_alloc_context3(codec) else { throw outOfMemory() }
        self.context = context
        if let parameters { avcodec_parameters_to_context(context, parameters) }
        context.pointee.thread_count = Int32(clamping: threads)
        // FFmpeg counts the padding of its rows as well.
        context.pointee.max_pixels = Int64(limits.pixels + 128 * limits.side)
        configure(context)
        let status = avcodec_open2(context, codec, nil)
        guard status >= 0 else {
            throw mediaFailure("decoder_missing", status, "Opening the decoder \(String(cString: codec.pointee.name))")
        }
    }

    deinit {
        var context: UnsafeMutablePointer<AVCodecContext>? = context
        avcodec_free_context(&context)
    }
}
