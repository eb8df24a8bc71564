import CFFmpeg
package import Failure
package import Tensor

/// A video that is encoded and not yet in a file, whose metadata may still be unknown: the codec's packets.
///
/// `@unchecked Sendable`: packets and parameters belong to this object alone and are only read once it is made. FFmpeg
/// counts references to a packet's bytes atomically.
package final class EncodedVideo: @unchecked Sendable {
    package let container: VideoContainer
    package let width: Int
    package let height: Int
    package let rate: FrameRate
    package let frameCount: Int
    private let stream: CodedStream
    private let packets: [UnsafeMutablePointer<AVPacket>]

    fileprivate init(_ encoder: FrameEncoder, _ stream: CodedStream, _ packets: [UnsafeMutablePointer<AVPacket>]) {
        container = encoder.container
        width = encoder.width
        height = encoder.height
        rate = encoder.rate
        frameCount = encoder.frameCount
        self.stream = stream
        self.packets = packets
    }

    deinit { release(packets) }

    /// Size of all packets.
    package var byteCount: Int { packets.reduce(0) { $0 + Int($1.pointee.size) } }

    /// Writes the file that a `VideoWriter` would have written, under a temporary name first.
    ///
    /// - Parameter metadata: as `VideoWriter`'s.
    /// - Throws: `video_write_failed`.
    package func write(path: String, metadata: [String: String]) throws(Failure) {
        FFmpegLog.begin()
        let temporary = temporaryName(beside: path)
        do throws(Failure) {
            let muxer = try Muxer(
                path: temporary, container: container, stream: stream, rate: rate, metadata: metadata)
            for packet in packets {
                // The container changes times and takes the packet that it is given.
                var copy = av_packet_clone(packet)
                guard let taken = copy else { throw outOfMemory() }
                defer { av_packet_free(&copy) }
                try muxer.write(taken)
            }
            try muxer.finish()
            try complete(temporary, path)
        } catch {
            removeFile(temporary)
            throw error
        }
    }
}

/// Encodes frames as they come, for a file that is written later.
package final class VideoEncoder {
    private let encoder: FrameEncoder
    private let stream: CodedStream
    private var packets: [UnsafeMutablePointer<AVPacket>] = []

    /// Parameters and errors are those of `VideoWriter`. Containers whose `hasPalette` is true cannot be encoded so.
    package init(
        container: VideoContainer, width: Int, height: Int, framesPerSecond rate: FrameRate, threads: Int = 0
    ) throws(Failure) {
        guard !container.hasPalette else {
            throw Failure(
                "video_encode_failed", "A \(container.rawValue) is encoded only when all its frames are known.",
                field: "container")
        }
        encoder = try FrameEncoder(
            container: container, width: width, height: height, framesPerSecond: rate, threads: threads)
        stream = try CodedStream(encoder.encoder)
    }

    deinit { release(packets) }

    /// Encodes frames `[t, height, width, 3]`, uint8 RGB. Errors: `frames_shape_invalid`, `video_encode_failed`.
    package func append(frames: Tensor) throws(Failure) {
        try encoder.check(frames)
        FFmpegLog.begin()
        try encoder.encode(frames) { packet throws(Failure) in try keep(packet) }
    }

    /// Ends the stream. A video without frames is `video_empty`.
    package func finish() throws(Failure) -> EncodedVideo {
        guard encoder.frameCount > 0 else { throw Failure("video_empty", "No frame was given.", field: "frames") }
        FFmpegLog.begin()
        try encoder.finish { packet throws(Failure) in try keep(packet) }
        let video = EncodedVideo(encoder, stream, packets)
        packets = []
        return video
    }

    private func keep(_ packet: UnsafeMutablePointer<AVPacket>) throws(Failure) {
        guard let kept = av_packet_clone(packet) else { throw outOfMemory() }
        packets.append(kept)
    }
}

private func release(_ packets: [UnsafeMutablePointer<AVPacket>]) {
    for packet in packets {
        var packet: UnsafeMutablePointer<AVPacket>? = packet
        av_packet_free(&packet)
    }
}
