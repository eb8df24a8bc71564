import CFFmpeg
import Failure
import Tensor

/// Decodes the first video stream of a file in memory, picture by picture.
final class VideoSource {
    /// A decoded picture, its time in seconds after the first one and how long it lasts.
    struct Picture {
        var frame: DecodedFrame
        var seconds: Double
        var duration: Double
    }

    /// Containers that may be read. None of them can name other files.
    private static let formats =
        "mov,matroska,avi,gif,apng,mpegts,mpeg,flv,ogg,asf,ivf,yuv4mpegpipe,mxf,nut,m4v,h264,hevc,mpegvideo,dv"
    /// Decoders that may run.
    private static let codecs = [
        "h264", "hevc", "mpeg4", "mpeg1video", "mpeg2video", "vp8", "vp9", "libvpx", "libvpx-vp9", "libdav1d",
        "libaom-av1", "ffv1", "huffyuv", "ffvhuff", "utvideo", "gif", "apng", "png", "mjpeg", "theora", "prores",
        "dnxhd", "rawvideo", "wmv1", "wmv2", "wmv3", "vc1", "msmpeg4v3", "msmpeg4v2", "msmpeg4", "flv", "h263", "qtrle",
        "dvvideo", "jpeg2000", "webp", "wrapped_avframe",
    ]

    private let file: MemoryFile
    private let stream: UnsafeMutablePointer<AVStream>
    private let decoder: Decoder
    private let packet: PacketBuffer
    private let limits: InputLimits
    private var isDraining = false
    private var firstTimestamp: Int64?
    private var lastSeconds = -1.0
    private var lostPackets = 0
    private var damagedPictures = 0
    private var isCutOff = false
    /// Timestamps of the first and the last packet, in seconds.
    private var packetTimes: ClosedRange<Double>?
    /// Where the last picture ends, in seconds after the first one.
    private var end = 0.0

    let framesPerSecond: FrameRate?
    let orientation: PictureOrientation
    let container: String
    let codec: String
    private(set) var notes: [String] = []

    /// Throws `input_video_unreadable`, `input_video_no_pictures`, `input_video_too_many_pixels`, `decoder_missing`.
    init(_ file: Tensor, threads: Int, limits: InputLimits) throws(Failure) {
        FFmpegLog.begin()
        let memory = try MemoryFile(file, formats: Self.formats, codecs: Self.codecs.joined(separator: ",")) { status in
            Self.unreadable(status)
        }
        let found = avformat_find_stream_info(memory.context, nil)
        guard found >= 0 else { throw Self.unreadable(found) }
        let stream = try Self.videoStream(memory.context)
        guard let parameters = stream.pointee.codecpar else { throw outOfMemory() }
        let (width, height) = (Int(parameters.pointee.width), Int(parameters.pointee.height))
        guard width <= limits.side, height <= limits.side, width * height <= limits.pixels else {
            throw Failure(
                "input_video_too_many_pixels",
                "The video has pictures of \(width)×\(height) pixels, more than the \(limits.pixels) allowed.",
                field: "video", remedy: "Make it smaller; the model resizes it anyway.")
        }
        decoder = try Decoder(try Self.findDecoder(parameters), parameters, limits, threads: threads) { context in
            context.pointee.pkt_timebase = stream.pointee.time_base
        }
        packet = try PacketBuffer()
        self.file = memory
        self.stream = stream
        self.limits = limits
        let rate = stream.pointee.avg_frame_rate
        framesPerSecond = FrameRate(numerator: Int(rate.num), denominator: Int(rate.den))
        container = memory.context.pointee.iformat.map { String(cString: $0.pointee.name) } ?? "unknown"
        codec = avcodec_get_name(parameters.pointee.codec_id).map { String(cString: $0) } ?? "unknown"
        if let matrix = zt_display_matrix(stream) {
            let found = PictureOrientation(a: matrix[0], b: matrix[1], c: matrix[3], d: matrix[4])
            orientation = found ?? .upright
            switch found {
            case .upright: break
            case nil: notes.append("turned by an angle that is no quarter, which was left out")
            case .some: notes.append("turned upright as the file says")
            }
        } else {
            orientation = .upright
        }
        let aspect = parameters.pointee.sample_aspect_ratio
        if aspect.num > 0, aspect.den > 0, aspect.num != aspect.den {
            notes.append("the pixels are not square (\(aspect.num):\(aspect.den)), which was left out")
        }
        if [AVCOL_TRC_SMPTE2084, AVCOL_TRC_ARIB_STD_B67].contains(parameters.pointee.color_trc) {
            notes.append("high dynamic range was read as if it were standard")
        }
    }

    /// Seconds that timestamps count in.
    var tick: Double { Self.seconds(1, stream.pointee.time_base) }

    /// The next picture, nil at the end or where nothing more can be read.
    func next() throws(Failure) -> Picture? {
        let frame = try DecodedFrame()
        while true {
            let status = avcodec_receive_frame(decoder.context, frame.frame)
            if status >= 0 { return picture(frame) }
            if status == zt_error_end_of_file() || isDraining { return nil }
            if status != zt_error_try_again() {
                lostPackets += 1
                // A decoder that fails for good must not be asked forever.
                if lostPackets > 1000 { return nil }
            }
            let hasPacket = readPacket()
            isDraining = !hasPacket
            let sent = avcodec_send_packet(decoder.context, hasPacket ? packet.packet : nil)
            if hasPacket { av_packet_unref(packet.packet) }
            if sent < 0, sent != zt_error_end_of_file() { lostPackets += 1 }
        }
    }

    /// What of the file could not be read, as notes.
    var damage: [String] {
        var found: [String] = []
        if lostPackets > 0 { found.append("\(lostPackets) damaged packets were left out") }
        if damagedPictures > 0 { found.append("\(damagedPictures) pictures have damaged parts") }
        if isCutOff { found.append("the file is cut off or damaged; what could be read was taken") }
        return found
    }

    /// The failure of a file without a single picture.
    func nothingDecoded() -> Failure {
        Failure(
            lostPackets > 0 || isCutOff ? "input_video_unreadable" : "input_video_no_pictures",
            "No picture of the video stream (\(codec)) can be decoded. \(FFmpegLog.recent())", field: "video",
            remedy: "Send a whole file with pictures.")
    }

    private func readPacket() -> Bool {
        while true {
            let status = av_read_frame(file.context, packet.packet)
            guard status >= 0 else {
                isCutOff = isCutOff || status != zt_error_end_of_file() || endsEarly
                return false
            }
            if packet.packet.pointee.stream_index == stream.pointee.index {
                notePacket(packet.packet.pointee)
                if packet.packet.pointee.flags & AV_PKT_FLAG_CORRUPT != 0 { isCutOff = true }
                return true
            }
            av_packet_unref(packet.packet)
        }
    }

    private func notePacket(_ packet: AVPacket) {
        guard packet.pts != zt_no_timestamp() else { return }
        let seconds = Self.seconds(packet.pts, stream.pointee.time_base)
        let known = packetTimes ?? seconds...seconds
        packetTimes = min(known.lowerBound, seconds)...max(known.upperBound, seconds)
    }

    /// Whether the packets end before the file says they would. To some demuxers the end of a file that was cut off is
    /// an ordinary end.
    private var endsEarly: Bool {
        let context = file.context.pointee
        var announced = 0.0
        if stream.pointee.duration > 0 {
            announced = Self.seconds(stream.pointee.duration, stream.pointee.time_base)
        } else if context.nb_streams == 1, context.duration > 0 {
            announced = Double(context.duration) / Double(AV_TIME_BASE)
        }
        guard let packetTimes else { return false }
        // The last picture lasts a while, and files round.
        return announced > packetTimes.upperBound - packetTimes.lowerBound + 2.5 * averageDuration
    }

    private var averageDuration: Double { framesPerSecond.map { 1 / $0.framesPerSecond } ?? 0.04 }

    private func picture(_ frame: DecodedFrame) -> Picture {
        let values = frame.frame.pointee
        if values.decode_error_flags != 0 || values.flags & AV_FRAME_FLAG_CORRUPT != 0 { damagedPictures += 1 }
        let base = stream.pointee.time_base
        let duration = Self.seconds(zt_frame_duration(frame.frame), base)
        let seconds = seconds(values.best_effort_timestamp)
        // A file can promise that its last picture lasts for years.
        let lasting = min(duration > 0 ? duration : averageDuration, limits.seconds)
        end = seconds + lasting
        return Picture(frame: frame, seconds: seconds, duration: lasting)
    }

    /// Seconds after the first picture; never before the picture before.
    private func seconds(_ timestamp: Int64) -> Double {
        var seconds = lastSeconds < 0 ? 0 : end
        if timestamp != zt_no_timestamp() {
            let first = firstTimestamp ?? timestamp
            firstTimestamp = first
            let (ticks, overflows) = timestamp.subtractingReportingOverflow(first)
            if !overflows { seconds = Self.seconds(ticks, stream.pointee.time_base) }
        }
        lastSeconds = max(seconds, lastSeconds, 0)
        return lastSeconds
    }

    private static func seconds(_ ticks: Int64, _ base: AVRational) -> Double {
        base.den > 0 ? Double(ticks) * Double(base.num) / Double(base.den) : 0
    }

    private static func videoStream(
        _ context: UnsafeMutablePointer<AVFormatContext>
    ) throws(Failure) -> UnsafeMutablePointer<AVStream> {
        guard context.pointee.nb_streams > 0 else {
            throw Failure(
                "input_video_unreadable", "The file ends before it describes its streams.", field: "video",
                remedy: "The file was cut off on its way: send it again.")
        }
        let index = av_find_best_stream(context, AVMEDIA_TYPE_VIDEO, -1, -1, nil, 0)
        guard index >= 0, let stream = context.pointee.streams[Int(index)],
            stream.pointee.disposition & AV_DISPOSITION_ATTACHED_PIC == 0
        else {
            throw Failure(
                "input_video_no_pictures", "The file has no video stream.", field: "video",
                remedy: "Send a file with pictures, not sound alone.")
        }
        return stream
    }

    private static func findDecoder(
        _ parameters: UnsafeMutablePointer<AVCodecParameters>
    ) throws(Failure) -> UnsafePointer<AVCodec> {
        let id = parameters.pointee.codec_id
        for name in codecs {
            if let codec = avcodec_find_decoder_by_name(name), codec.pointee.id == id { return codec }
        }
        let name = avcodec_get_name(id).map { String(cString: $0) } ?? "unknown"
        throw Failure(
            "decoder_missing", "Videos of the codec \(name) cannot be decoded here.", field: "video",
            remedy: "Convert it to H.264, VP9 or AV1.")
    }

    private static func unreadable(_ status: Int32) -> Failure {
        mediaFailure(
            "input_video_unreadable", status, "Reading the video", field: "video",
            remedy: "Send a whole MP4, WebM, Matroska, QuickTime, AVI or GIF file.")
    }
}
