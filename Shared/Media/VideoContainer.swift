import CFFmpeg

/// The files that a video can be written as.
package enum VideoContainer: String, Sendable, Hashable, CaseIterable {
    /// H.264 4:2:0, the index in front so that playing starts before the download ends.
    case mp4
    /// VP9 4:2:0.
    case webm
    /// One palette of 256 colours for the whole video; times in hundredths of a second.
    case gif
    /// FFV1, every RGB value kept exactly.
    case mkv

    /// The container that a file name's extension stands for, in upper or lower case.
    package init?(pathExtension: String) { self.init(rawValue: pathExtension.lowercased()) }

    /// Without the dot.
    package var fileExtension: String { rawValue }

    package var mimeType: String {
        switch self {
        case .mp4: "video/mp4"
        case .webm: "video/webm"
        case .gif: "image/gif"
        case .mkv: "video/x-matroska"
        }
    }

    /// FFmpeg's name of the format.
    var muxerName: String { self == .mkv ? "matroska" : rawValue }

    /// FFmpeg's name of the encoder.
    var encoderName: String {
        switch self {
        case .mp4: "libx264"
        case .webm: "libvpx-vp9"
        case .gif: "gif"
        case .mkv: "ffv1"
        }
    }

    /// Whether chroma is stored for 2×2 pixels, so that both extents must be even.
    var hasSubsampledChroma: Bool { self == .mp4 || self == .webm }

    /// Whether one palette serves the whole video, so that nothing is encoded before the last frame is known.
    package var hasPalette: Bool { self == .gif }

    /// Encoder options; `quality` is the constant rate factor of the lossy codecs, lower is better.
    func encoderOptions(quality: Int?) -> [String: String] {
        switch self {
        case .mp4:
            // The preset looks 40 frames ahead, nearly the whole of a short clip: nothing would be encoded while it is
            // decoded. With 16 files are as big at the same quality.
            ["preset": "medium", "crf": String(quality ?? 18), "rc-lookahead": "16"].merging(Self.reproducible) { $1 }
        case .webm: ["crf": String(quality ?? 24), "b": "0", "deadline": "good", "cpu-used": "3", "row-mt": "1"]
        case .gif: [:]
        case .mkv: ["level": "3", "slicecrc": "1", "g": "1"]
        }
    }

    /// x264 core 164 with its AVX-512 routines weighs macroblocks by memory that nothing has written: the same frames give
    /// other packets from time to time. With those for AVX2 it gives what it gives without any assembly.
    private static var reproducible: [String: String] {
        av_get_cpu_flags() & AV_CPU_FLAG_AVX2 != 0 ? ["x264-params": "asm=avx2"] : [:]
    }

    /// Muxer options. The iTunes tags of mp4 know few keys; others need QuickTime's free-form tags.
    func muxerOptions(metadata: [String: String], rate: FrameRate) -> [String: String] {
        // Matroska's muxer draws random identifiers otherwise: the same video would have other bytes every time.
        guard self == .mp4 else { return self == .gif ? [:] : ["fflags": "+bitexact"] }
        // A clock that divides a frame's time, so that the file's duration is exact and not rounded to milliseconds.
        let clock = Int(rate.numerator) * (rate.numerator < 1000 ? 1000 : 1)
        let knownKeys: Set<String> = [
            "title", "comment", "description", "artist", "date", "genre", "copyright", "synopsis",
        ]
        return [
            "movflags": knownKeys.isSuperset(of: metadata.keys) ? "+faststart" : "+faststart+use_metadata_tags",
            "movie_timescale": String(clock),
        ]
    }
}
