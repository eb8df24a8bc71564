import Failure
import Foundation
import Media
import Tensor
import Testing

@Suite("Writing videos")
struct VideoWriterTests {
    struct Case: Sendable, CustomTestStringConvertible {
        var container: VideoContainer
        var numerator: Int
        var denominator = 1
        var count: Int
        var size = (width: 48, height: 32)

        var testDescription: String { "\(container) \(count) frames at \(numerator)/\(denominator)" }
    }
    static let cases: [Case] = VideoContainer.allCases.flatMap { container in
        [
            Case(container: container, numerator: 8, count: 9), Case(container: container, numerator: 16, count: 17),
            Case(container: container, numerator: 30000, denominator: 1001, count: 5),
            Case(container: container, numerator: 25, count: 1, size: (64, 16)),
        ]
    }
    static let metadata = [
        "title": "a fox, \"jumping\" over 日本", "comment": #"{"seed":42,"prompt":"a fox","model":"sha256:00ff"}"#,
    ]

    static func write(
        _ frames: Tensor, _ path: String, _ container: VideoContainer, _ rate: FrameRate,
        _ metadata: [String: String] = [:]
    ) throws {
        let writer = try VideoWriter(
            path: path, container: container, width: frames.shape[2], height: frames.shape[1], framesPerSecond: rate,
            metadata: metadata, threads: 1)
        for index in 0..<frames.shape[0] { try writer.append(frames: frames.rows(index..<(index + 1))) }
        try writer.finish()
    }

    @Test("ffprobe agrees about codec, size, frame rate, frame count, duration, colours and tags", arguments: cases)
    func agreesWithFFProbe(_ example: Case) throws {
        try withFolder { folder in
            let path = folder.appending(path: "video.\(example.container.fileExtension)").path()
            let rate = try #require(FrameRate(numerator: example.numerator, denominator: example.denominator))
            let frames = movingGradient(count: example.count, width: example.size.width, height: example.size.height)
            try Self.write(frames, path, example.container, rate, Self.metadata)

            let probe = try FFProbe(path: path)
            let stream = try #require(probe.streams.first)
            let codecs: [VideoContainer: String] = [.mp4: "h264", .webm: "vp9", .gif: "gif", .mkv: "ffv1"]
            #expect(stream.codec_name == codecs[example.container])
            #expect(stream.width == example.size.width && stream.height == example.size.height)
            #expect(stream.nb_read_frames == String(example.count) && stream.nb_read_packets == String(example.count))
            let duration = try #require(Double(probe.format.duration))
            // Matroska counts milliseconds, GIF hundredths of a second.
            let tolerance: [VideoContainer: Double] = [.mp4: 1e-5, .webm: 1.01e-3, .gif: 1.01e-2, .mkv: 1.01e-3]
            let wanted = Double(example.count) / rate.framesPerSecond
            #expect(abs(duration - wanted) <= tolerance[example.container] ?? 0, "\(duration) s instead of \(wanted) s")
            if example.container != .gif {
                #expect(stream.avg_frame_rate == "\(example.numerator)/\(example.denominator)")
                #expect(stream.r_frame_rate == "\(example.numerator)/\(example.denominator)")
                #expect(probe.tag("title") == Self.metadata["title"])
            }
            if example.container == .mp4 || example.container == .webm {
                #expect(stream.pix_fmt == "yuv420p" && stream.color_space == "bt709" && stream.color_range == "tv")
                #expect(stream.color_primaries == "bt709")
            }
            #expect(probe.tag("comment") == Self.metadata["comment"])

            let own = try MediaProbe(path: path)
            #expect(own.codec == stream.codec_name && own.frameCount == example.count && own.width == stream.width)
            #expect(abs(own.duration - duration) < 1e-5 && own.metadata["comment"] == Self.metadata["comment"])
            #expect(example.container == .gif || own.framesPerSecond == rate)
            #expect(try FileManager.default.contentsOfDirectory(atPath: folder.path()).count == 1)
        }
    }

    @Test("mkv keeps every value of every pixel")
    func losslessMatroska() throws {
        try withFolder { folder in
            let path = folder.appending(path: "noise.mkv").path()
            var random = SystemRandomNumberGenerator()
            let noise = Tensor(bytes: (0..<(5 * 17 * 31 * 3)).map { _ in UInt8.random(in: 0...255, using: &random) })
                .reshaped([5, 17, 31, 3])
            try Self.write(noise, path, .mkv, try #require(FrameRate(numerator: 8)))
            let read = try VideoReader(path: path).frames()
            #expect(read.shape == noise.shape && read.bytes == noise.bytes)
        }
    }

    @Test("lossy containers come back close and in order", arguments: [VideoContainer.mp4, .webm])
    func lossy(container: VideoContainer) throws {
        try withFolder { folder in
            let path = folder.appending(path: "video.\(container.fileExtension)").path()
            let frames = movingGradient(count: 12, width: 64, height: 48)
            try Self.write(frames, path, container, try #require(FrameRate(numerator: 8)))
            let read = try VideoReader(path: path).frames()
            #expect(read.shape == frames.shape)
            for index in 0..<12 {
                #expect(signalToNoise(read.rows(index..<(index + 1)), frames.rows(index..<(index + 1))) > 34)
            }
        }
    }

    @Test("a GIF of few colours keeps them exactly")
    func exactGIF() throws {
        try withFolder { folder in
            let path = folder.appending(path: "flat.gif").path()
            let colors: [[UInt8]] = [[250, 3, 7], [0, 0, 0], [255, 255, 255], [12, 200, 90], [13, 60, 201]]
            let bytes = (0..<(4 * 16 * 16)).flatMap { colors[($0 / 5) % colors.count] }
            let frames = Tensor(bytes: bytes).reshaped([4, 16, 16, 3])
            try Self.write(frames, path, .gif, try #require(FrameRate(numerator: 10)))
            #expect(try VideoReader(path: path).frames().bytes == frames.bytes)
        }
    }

    @Test("a GIF of many colours comes back close")
    func closeGIF() throws {
        try withFolder { folder in
            let path = folder.appending(path: "gradient.gif").path()
            let frames = movingGradient(count: 8, width: 96, height: 64)
            try Self.write(frames, path, .gif, try #require(FrameRate(numerator: 8)))
            #expect(signalToNoise(try VideoReader(path: path).frames(), frames) > 26)
        }
    }

    @Test("mp4, webm and mkv keep tags of any name", arguments: [VideoContainer.mp4, .webm, .mkv])
    func freeTags(container: VideoContainer) throws {
        try withFolder { folder in
            let path = folder.appending(path: "tags.\(container.fileExtension)").path()
            let tags = ["seed": "18446744073709551615", "model_digest": "ab12", "title": "t", "comment": "c"]
            try Self.write(
                movingGradient(count: 2, width: 32, height: 32), path, container, try #require(FrameRate(numerator: 8)),
                tags)
            let read = try MediaProbe(path: path).metadata
            for (key, value) in tags { #expect(read[key] == value, "\(key)") }
            #expect(try FFProbe(path: path).tag("seed") == tags["seed"])
        }
    }

    @Test("the mp4 index stands before the pictures")
    func fastStart() throws {
        try withFolder { folder in
            let path = folder.appending(path: "fast.mp4").path()
            try Self.write(
                movingGradient(count: 3, width: 32, height: 32), path, .mp4, try #require(FrameRate(numerator: 8)))
            let bytes = try Data(contentsOf: URL(filePath: path))
            let index = try #require(bytes.firstRange(of: Data("moov".utf8)))
            let pictures = try #require(bytes.firstRange(of: Data("mdat".utf8)))
            #expect(index.lowerBound < pictures.lowerBound)
        }
    }

    @Test("a path may hold colons, spaces and letters of any script")
    func oddPath() throws {
        try withFolder { folder in
            let path = folder.appending(path: "a b:c %d 日本.webm").path(percentEncoded: false)
            try Self.write(
                movingGradient(count: 2, width: 32, height: 32), path, .webm, try #require(FrameRate(numerator: 8)))
            #expect(try MediaProbe(path: path).frameCount == 2)
        }
    }

    @Test("container names come from file extensions")
    func containers() {
        #expect(VideoContainer(pathExtension: "MP4") == .mp4 && VideoContainer(pathExtension: "avi") == nil)
        #expect(
            VideoContainer.allCases.map(\.mimeType) == ["video/mp4", "video/webm", "image/gif", "video/x-matroska"])
    }
}

@Suite("Videos that cannot be written or read")
struct MediaErrorTests {
    static func code(_ body: () throws -> Void) -> String? {
        do {
            try body()
            return nil
        } catch { return (error as? Failure)?.code ?? "\(error)" }
    }

    @Test("wrong sizes, rates and frames are refused by name")
    func refusals() throws {
        try withFolder { folder in
            let rate = try #require(FrameRate(numerator: 8))
            let path = folder.appending(path: "x.mp4").path()
            func open(_ container: VideoContainer, _ width: Int, _ height: Int, _ rate: FrameRate) throws -> VideoWriter
            {
                try VideoWriter(path: path, container: container, width: width, height: height, framesPerSecond: rate)
            }
            #expect(Self.code { _ = try open(.mp4, 33, 32, rate) } == "video_size_invalid")
            #expect(Self.code { _ = try open(.webm, 32, 0, rate) } == "video_size_invalid")
            #expect(Self.code { _ = try open(.mkv, 32, 99_999, rate) } == "video_size_invalid")
            let fast = try #require(FrameRate(numerator: 60))
            #expect(Self.code { _ = try open(.gif, 32, 32, fast) } == "frame_rate_invalid")
            #expect(FrameRate(numerator: 0) == nil && FrameRate(numerator: 8, denominator: -1) == nil)
            let writer = try open(.mp4, 32, 32, rate)
            #expect(
                Self.code { try writer.append(frames: Tensor(zeros: [1, 16, 32, 3], dtype: .uint8)) }
                    == "frames_shape_invalid")
            #expect(Self.code { try writer.append(frames: Tensor(zeros: [1, 32, 32, 3])) } == "frames_shape_invalid")
            #expect(Self.code { try writer.finish() } == "video_empty")
        }
    }

    @Test("a folder that is not there is a failure that names the path", arguments: VideoContainer.allCases)
    func missingFolder(container: VideoContainer) throws {
        let path = "/nonexistent/folder/x.\(container.fileExtension)"
        #expect {
            try VideoWriter(
                path: path, container: container, width: 32, height: 32,
                framesPerSecond: try #require(FrameRate(numerator: 8)))
        } throws: { error in
            guard let failure = error as? Failure else { return false }
            return failure.code == "video_write_failed" && failure.message.contains("/nonexistent/folder")
                && failure.message.contains("No such file")
        }
    }

    @Test("a full disk is a failure, and leaves an older video in place", arguments: VideoContainer.allCases)
    func fullDisk(container: VideoContainer) throws {
        try withFolder { folder in
            let path = folder.appending(path: "x.\(container.fileExtension)").path()
            try Data("older".utf8).write(to: URL(filePath: path))
            let full = folder.appending(path: "full").path()
            try FileManager.default.createSymbolicLink(atPath: full, withDestinationPath: "/dev/full")
            #expect {
                let writer = try VideoWriter(
                    path: path, container: container, width: 64, height: 64,
                    framesPerSecond: try #require(FrameRate(numerator: 8)), temporaryPath: full)
                try writer.append(frames: movingGradient(count: 4, width: 64, height: 64))
                try writer.finish()
            } throws: { error in
                guard let failure = error as? Failure else { return false }
                return failure.code == "video_write_failed" && failure.message.contains("No space left")
            }
            #expect(try Data(contentsOf: URL(filePath: path)) == Data("older".utf8))
        }
    }

    @Test("a writer that is dropped leaves nothing behind", arguments: VideoContainer.allCases)
    func dropped(container: VideoContainer) throws {
        try withFolder { folder in
            do {
                let writer = try VideoWriter(
                    path: folder.appending(path: "x").path(), container: container, width: 32, height: 32,
                    framesPerSecond: try #require(FrameRate(numerator: 8)))
                try writer.append(frames: movingGradient(count: 2, width: 32, height: 32))
            }
            #expect(try FileManager.default.contentsOfDirectory(atPath: folder.path()).isEmpty)
        }
    }

    @Test("files that are no videos are unreadable, with the path in the message")
    func unreadable() throws {
        try withFolder { folder in
            let path = folder.appending(path: "garbage.mp4").path()
            for bytes in [Data(), Data("not a video".utf8), Data(repeating: 0x47, count: 4000)] {
                try bytes.write(to: URL(filePath: path))
                #expect {
                    try VideoReader(path: path)
                } throws: { error in
                    (error as? Failure)?.code == "unreadable_media"
                        && (error as? Failure)?.message.contains(path) == true
                }
            }
            #expect(Self.code { _ = try MediaProbe(path: path + ".absent") } == "unreadable_media")
        }
    }

    @Test("a video cut in half is unreadable or shorter, never a crash")
    func cutVideo() throws {
        try withFolder { folder in
            for container in VideoContainer.allCases {
                let path = folder.appending(path: "cut.\(container.fileExtension)").path()
                try VideoWriterTests.write(
                    movingGradient(count: 9, width: 64, height: 48), path, container,
                    try #require(FrameRate(numerator: 8)))
                let whole = try Data(contentsOf: URL(filePath: path))
                try whole.prefix(whole.count / 2).write(to: URL(filePath: path))
                if let count = try? VideoReader(path: path).frames().shape[0] { #expect(count <= 9) }
            }
        }
    }
}
