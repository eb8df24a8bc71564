import CFFmpeg
package import Failure
package import Tensor

/// The pictures of a video from outside, upright, at a wanted rate.
package struct InputVideo: Sendable {
    /// uint8 RGB `[T, H, W, 3]`, T ≥ 1.
    package let frames: Tensor
    /// The file's own average rate; nil when it does not tell.
    package let framesPerSecond: FrameRate?
    /// FFmpeg's names of container and codec, such as `mov,mp4,m4a,3gp,3g2,mj2` and `h264`.
    package let container: String
    package let codec: String
    /// What was changed or missing and may surprise: turned, cut off, damaged packets.
    package let notes: [String]

    package var frameCount: Int { frames.shape[0] }
    package var height: Int { frames.shape[1] }
    package var width: Int { frames.shape[2] }

    /// Decodes the first pictures of a video file.
    ///
    /// With a `rate`, frame k is the picture whose timestamp is nearest to k / rate seconds after the first one, the
    /// earlier of two equally near; pictures are repeated or left out, and the last instant lies before the end of the
    /// last picture. Without, every picture comes once, as in diffusers' `load_video`.
    ///
    /// A stream that is cut off gives what can be decoded, and a note. Reading ends with the last wanted frame.
    ///
    /// - Parameters:
    ///   - wanted: how many frames at most; nil for all.
    ///   - threads: of the decoder; 0 leaves the choice to it.
    /// - Throws: `input_video_too_many_bytes`, `input_video_unreadable`, `input_video_no_pictures`,
    ///   `input_video_too_many_pixels`, `input_video_too_long`, `input_video_rate_invalid`,
    ///   `input_video_count_invalid`, `decoder_missing`.
    package init(
        file: Tensor, frames wanted: Int? = nil, rate: FrameRate? = nil, threads: Int = 1,
        limits: InputLimits = InputLimits()
    ) throws(Failure) {
        try Self.check(file, wanted, rate, limits)
        let source = try VideoSource(file, threads: threads, limits: limits)
        var selection = FrameSelection(wanted: wanted, rate: rate, tick: source.tick)
        var collector = FrameCollector(limits: limits, orientation: source.orientation)
        var notes = source.notes
        var decoded = 0
        while !selection.isComplete, let picture = try source.next() {
            decoded += 1
            guard collector.fits(picture) else {
                notes.append("the pictures change their size after \(decoded - 1); the rest was left out")
                break
            }
            guard picture.seconds <= limits.seconds, decoded <= limits.decodedFrames else {
                throw Self.tooLong(picture.seconds, decoded, limits)
            }
            try collector.append(selection.takeBefore(picture.seconds))
            collector.current = picture
            try collector.append(selection.takeAt(picture.seconds))
        }
        try collector.append(selection.finish(duration: collector.current?.duration ?? 0))
        guard let frames = collector.frames() else { throw source.nothingDecoded() }
        if let wanted, frames.shape[0] < wanted {
            notes.append("the video has \(frames.shape[0]) frames, \(wanted) were wanted")
        }
        self.frames = frames
        framesPerSecond = source.framesPerSecond
        container = source.container
        codec = source.codec
        self.notes = notes + source.damage
    }

    private static func check(
        _ file: Tensor, _ wanted: Int?, _ rate: FrameRate?, _ limits: InputLimits
    ) throws(Failure) {
        guard file.byteCount <= limits.videoBytes else {
            throw Failure(
                "input_video_too_many_bytes",
                "The video has \(file.byteCount) bytes, more than the \(limits.videoBytes) allowed.", field: "video",
                remedy: "Cut it to the part that is wanted, or compress it more.")
        }
        if let wanted, wanted < 1 {
            throw Failure(
                "input_video_count_invalid", "\(wanted) frames of a video cannot be read.", field: "num_frames",
                remedy: "Ask for one at least.")
        }
        if let rate, !(0.01...1000).contains(rate.framesPerSecond) {
            throw Failure(
                "input_video_rate_invalid", "A video cannot be read at \(rate) frames per second.", field: "fps",
                remedy: "Choose from 0.01 to 1000.")
        }
    }

    private static func tooLong(_ seconds: Double, _ decoded: Int, _ limits: InputLimits) -> Failure {
        Failure(
            "input_video_too_long",
            "The wanted frames reach \(seconds) s and \(decoded) pictures into the video; \(limits.seconds) s and "
                + "\(limits.decodedFrames) are allowed.", field: "video",
            remedy: "Cut it to the part that is wanted, or ask for fewer frames.")
    }
}

/// Which decoded picture stands for which wanted frame.
struct FrameSelection {
    private let wanted: Int?
    private let rate: FrameRate?
    /// Seconds that timestamps may be rounded by.
    private let tick: Double
    private var taken = 0
    /// Timestamp of the newest picture.
    private var newest: Double?

    init(wanted: Int?, rate: FrameRate?, tick: Double) {
        self.wanted = wanted
        self.rate = rate
        self.tick = tick
    }

    var isComplete: Bool { wanted.map { taken >= $0 } ?? false }

    /// How often the newest picture is taken for instants before one at `seconds`, which is the newest from now on.
    mutating func takeBefore(_ seconds: Double) -> Int {
        let before = newest
        newest = seconds
        guard let before else { return 0 }
        let tolerance = min(tick, (seconds - before) / 4)
        return take { instant in instant - before <= seconds - instant + tolerance }
    }

    /// How often the newest picture, at `seconds`, is taken whatever follows it.
    mutating func takeAt(_ seconds: Double) -> Int {
        guard rate != nil else {
            guard !isComplete else { return 0 }
            taken += 1
            return 1
        }
        return take { instant in instant <= seconds }
    }

    /// How often the newest picture is taken when none follows and it lasts `duration` seconds.
    mutating func finish(duration: Double) -> Int {
        guard let last = newest else { return 0 }
        let end = last + duration - min(max(tick, 1e-6), duration / 4)
        return take { instant in instant < end }
    }

    private mutating func take(while belongs: (Double) -> Bool) -> Int {
        guard let rate else { return 0 }
        var count = 0
        while !isComplete, belongs(Double(taken) / rate.framesPerSecond) {
            taken += 1
            count += 1
        }
        return count
    }
}

/// Wanted frames as they come.
private struct FrameCollector {
    private let limits: InputLimits
    private let orientation: PictureOrientation
    private var collected: [Tensor] = []
    private var byteCount = 0
    private var converter: FrameConverter?
    private var size: (width: Int, height: Int)?
    /// The newest picture.
    var current: VideoSource.Picture?

    init(limits: InputLimits, orientation: PictureOrientation) {
        self.limits = limits
        self.orientation = orientation
    }

    /// Whether the picture is of the size of those before.
    mutating func fits(_ picture: VideoSource.Picture) -> Bool {
        let known = size ?? (picture.frame.width, picture.frame.height)
        size = known
        return known == (picture.frame.width, picture.frame.height)
    }

    /// Takes the newest picture `count` times.
    mutating func append(_ count: Int) throws(Failure) {
        guard count > 0, let current else { return }
        let bytes = count * current.frame.width * current.frame.height * 3
        guard bytes <= limits.frameBytes - byteCount else {
            throw Failure(
                "input_video_too_many_pixels",
                "The wanted frames of \(current.frame.width)×\(current.frame.height) pixels need more than the "
                    + "\(limits.frameBytes) bytes allowed.", field: "video",
                remedy: "Make the video smaller, cut it, or ask for fewer frames.")
        }
        byteCount += bytes
        let frame = current.frame.frame
        if converter?.layout != FrameConverter.Layout(frame) { converter = try FrameConverter(frame) }
        guard let picture = try converter?.converted(frame) else { return }
        let turned = orientation.upright(picture)
        collected += Array(repeating: turned.reshaped([1] + turned.shape), count: count)
    }

    /// All taken frames, nil without any. The collected ones go while they are copied.
    mutating func frames() -> Tensor? {
        var parts = collected
        collected = []
        guard let first = parts.first else { return nil }
        let rowBytes = first.byteCount
        var result = Tensor(uninitialized: [parts.count] + first.shape.dropFirst(), dtype: .uint8)
        result.withUnsafeMutableBytes { target in
            while let frame = parts.popLast() {
                frame.withUnsafeBytes { source in
                    UnsafeMutableRawBufferPointer(rebasing: target[(parts.count * rowBytes)...].prefix(rowBytes))
                        .copyMemory(from: source)
                }
            }
        }
        return result
    }
}
