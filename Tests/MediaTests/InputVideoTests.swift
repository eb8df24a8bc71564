import Failure
import Foundation
import Media
import Tensor
import Testing

@Suite("Reading videos")
struct InputVideoTests {
    /// Frame t is of one colour that tells t: mkv keeps it exactly, the others nearly.
    static func numbered(_ count: Int, width: Int = 32, height: Int = 16) -> Tensor {
        var bytes: [UInt8] = []
        for t in 0..<count {
            for _ in 0..<(width * height) { bytes += [UInt8(t * 10), 128, UInt8(255 - t * 10)] }
        }
        return Tensor(bytes: bytes).reshaped([count, height, width, 3])
    }

    static func file(_ frames: Tensor, _ container: VideoContainer, fps: Int) throws -> Tensor {
        try withFolder { folder in
            let path = folder.appending(path: "video.\(container.fileExtension)").path()
            try VideoWriterTests.write(frames, path, container, try #require(FrameRate(numerator: fps)))
            return Tensor(bytes: [UInt8](try Data(contentsOf: URL(filePath: path))))
        }
    }

    /// Which frame of `numbered` each frame is.
    static func numbers(_ video: InputVideo) -> [Int] {
        (0..<video.frameCount).map { index in
            let pixel = video.frames.rows(index..<(index + 1)).bytes
            return Int((Double(pixel[0]) / 10).rounded())
        }
    }

    static func code(_ body: () throws -> Void) -> String? {
        do {
            try body()
            return nil
        } catch {
            return (error as? Failure)?.code ?? "\(error)"
        }
    }

    @Test("every container that is written is read back, every frame once", arguments: VideoContainer.allCases)
    func containers(container: VideoContainer) throws {
        let frames = Self.numbered(12)
        let video = try InputVideo(file: try Self.file(frames, container, fps: 10))
        #expect(video.frames.shape == frames.shape)
        #expect(Self.numbers(video) == Array(0..<12))
        #expect(video.framesPerSecond == FrameRate(numerator: 10) && video.notes.isEmpty)
        #expect(video.codec == ["mp4": "h264", "webm": "vp9", "gif": "gif", "mkv": "ffv1"][container.rawValue])
        if container == .mkv { #expect(video.frames.bytes == frames.bytes) }
    }

    @Test("real colours come back close", arguments: [VideoContainer.mp4, .webm])
    func colors(container: VideoContainer) throws {
        let frames = movingGradient(count: 5, width: 64, height: 48)
        let video = try InputVideo(file: try Self.file(frames, container, fps: 8))
        #expect(signalToNoise(video.frames, frames) > 34)
    }

    @Test("the first frames are enough")
    func firstFrames() throws {
        let file = try Self.file(Self.numbered(20), .mp4, fps: 8)
        #expect(Self.numbers(try InputVideo(file: file, frames: 5)) == [0, 1, 2, 3, 4])
        let video = try InputVideo(file: file, frames: 30)
        #expect(video.frameCount == 20 && video.notes == ["the video has 20 frames, 30 were wanted"])
    }

    @Test("at another rate the nearest pictures are taken", arguments: [VideoContainer.mp4, .mkv])
    func rates(container: VideoContainer) throws {
        let file = try Self.file(Self.numbered(16), container, fps: 16)
        func numbers(_ fps: Int, _ denominator: Int = 1, _ count: Int? = nil) throws -> [Int] {
            Self.numbers(
                try InputVideo(file: file, frames: count, rate: FrameRate(numerator: fps, denominator: denominator)))
        }
        #expect(try numbers(16) == Array(0..<16))
        #expect(try numbers(8) == Array(stride(from: 0, to: 16, by: 2)))
        #expect(try numbers(8, 1, 3) == [0, 2, 4])
        // Instants 0, 1.6, 3.2, 4.8 … in frames of 1/16 s.
        #expect(try numbers(10) == [0, 2, 3, 5, 6, 8, 10, 11, 13, 14])
        // Half-way instants take the earlier picture; the last one is shown until the video ends.
        let doubled: [Int] = (0..<16).flatMap { [$0, $0] }
        #expect(try numbers(32) == doubled)
        #expect(try numbers(1, 2) == [0])
    }

    @Test("pictures of uneven times count by their times")
    func unevenTimes() throws {
        // A GIF whose first picture stays ten times as long: its graphic control extension says so.
        let file = try Self.file(Self.numbered(4), .gif, fps: 10)
        var bytes = file.bytes
        let control = try #require(Data(bytes).firstRange(of: Data([0x21, 0xF9, 0x04])))
        bytes[control.lowerBound + 4] = 100
        let video = try InputVideo(file: Tensor(bytes: bytes), rate: FrameRate(numerator: 5))
        // Pictures at 0, 1, 1.1 and 1.2 s; instants 0, 0.2, … 1.2 s.
        #expect(Self.numbers(video) == [0, 0, 0, 1, 1, 1, 3])
    }

    @Test("turned videos are upright, in all ways that telephones hold them")
    func turned() throws {
        // Columns of red that rise to the right, rows of green that rise downwards.
        var bytes: [UInt8] = []
        for y in 0..<16 {
            for x in 0..<32 { bytes += [UInt8(x * 7), UInt8(y * 14), 60] }
        }
        let file = try Self.file(Tensor(bytes: bytes).reshaped([1, 16, 32, 3]), .mp4, fps: 8)
        let one: [UInt8] = [0, 1, 0, 0], minus: [UInt8] = [0xFF, 0xFF, 0, 0], zero: [UInt8] = [0, 0, 0, 0]
        func video(_ a: [UInt8], _ b: [UInt8], _ c: [UInt8], _ d: [UInt8]) throws -> InputVideo {
            var bytes = file.bytes
            let header = try #require(Data(bytes).firstRange(of: Data("tkhd".utf8))).lowerBound
            bytes.replaceSubrange((header + 44)..<(header + 64), with: a + b + zero + c + d)
            return try InputVideo(file: Tensor(bytes: bytes))
        }
        func corner(_ video: InputVideo, _ y: Int, _ x: Int) -> (red: Int, green: Int) {
            let place = (y * video.width + x) * 3
            let bytes = video.frames.bytes
            return (Int(bytes[place]), Int(bytes[place + 1]))
        }
        let upright = try video(one, zero, zero, one)
        #expect(upright.notes.isEmpty && (upright.width, upright.height) == (32, 16))
        // A quarter clockwise: the left lower corner comes to the left top.
        let clockwise = try video(zero, one, minus, zero)
        #expect((clockwise.width, clockwise.height) == (16, 32))
        #expect(corner(clockwise, 0, 0).red < 20 && corner(clockwise, 0, 0).green > 180)
        #expect(corner(clockwise, 31, 0).red > 190 && corner(clockwise, 31, 0).green > 180)
        #expect(clockwise.notes == ["turned upright as the file says"])
        let counterclockwise = try video(zero, minus, one, zero)
        #expect(corner(counterclockwise, 0, 0).red > 190 && corner(counterclockwise, 0, 0).green < 20)
        let upsideDown = try video(minus, zero, zero, minus)
        #expect(corner(upsideDown, 0, 0).red > 190 && corner(upsideDown, 0, 0).green > 180)
        #expect((upsideDown.width, upsideDown.height) == (32, 16))
        let mirrored = try video(minus, zero, zero, one)
        #expect(corner(mirrored, 0, 0).red > 190 && corner(mirrored, 0, 0).green < 20)
        let slanted = try video([0, 0, 0xB5, 4], [0, 0, 0xB5, 4], [0xFF, 0xFF, 0x4A, 0xFC], [0, 0, 0xB5, 4])
        #expect((slanted.width, slanted.height) == (32, 16) && slanted.notes.first?.contains("angle") == true)
    }

    @Test("a stream that is cut off gives what there is, and says so", arguments: [VideoContainer.mkv, .mp4, .webm])
    func cutOff(container: VideoContainer) throws {
        let frames = movingGradient(count: 24, width: 64, height: 64)
        let file = try Self.file(frames, container, fps: 8)
        let half = Tensor(bytes: Array(file.bytes.prefix(file.byteCount * 85 / 100)))
        let video = try InputVideo(file: half)
        #expect(video.frameCount > 0 && video.frameCount < 24)
        #expect(!video.notes.isEmpty, "\(video.frameCount) frames without a note")
        let index = video.frameCount / 2
        #expect(signalToNoise(video.frames.rows(index..<(index + 1)), frames.rows(index..<(index + 1))) > 30)
    }

    @Test("what is no video is refused")
    func refusals() throws {
        func code(_ bytes: [UInt8]) -> String? { Self.code { _ = try InputVideo(file: Tensor(bytes: bytes)) } }
        #expect(code([]) == "input_video_unreadable")
        #expect(code(Array("#EXTM3U\n#EXTINF:1,\nfile:///etc/passwd\n".utf8)) == "input_video_unreadable")
        #expect(code(Array("ffconcat version 1.0\nfile /etc/passwd\n".utf8)) == "input_video_unreadable")
        #expect(code(try MediaFixtures.bytes("420.jpg")) == "input_video_unreadable")
        let mp4 = try Self.file(Self.numbered(2), .mp4, fps: 8).bytes
        #expect(code(Array(mp4.prefix(60))) == "input_video_unreadable")
        // The handler of the only track says sound.
        var sound = mp4
        let handler = try #require(Data(sound).firstRange(of: Data("vide".utf8)))
        sound.replaceSubrange(handler.lowerBound..<(handler.lowerBound + 4), with: Array("soun".utf8))
        #expect(code(sound) == "input_video_no_pictures")
    }

    @Test("limits hold before memory is taken")
    func limits() throws {
        let file = try Self.file(Self.numbered(16), .mkv, fps: 8)
        func code(_ count: Int? = nil, _ rate: FrameRate? = nil, _ change: (inout InputLimits) -> Void) -> String? {
            var limits = InputLimits()
            change(&limits)
            return Self.code { _ = try InputVideo(file: file, frames: count, rate: rate, limits: limits) }
        }
        #expect(code { $0.videoBytes = file.byteCount - 1 } == "input_video_too_many_bytes")
        #expect(code { $0.pixels = 32 * 16 - 1 } == "input_video_too_many_pixels")
        #expect(code { $0.side = 31 } == "input_video_too_many_pixels")
        #expect(code { $0.frameBytes = 16 * 32 * 16 * 3 - 1 } == "input_video_too_many_pixels")
        #expect(code { $0.frameBytes = 16 * 32 * 16 * 3 } == nil)
        #expect(code { $0.seconds = 1 } == "input_video_too_long")
        #expect(code(9) { $0.seconds = 1 } == nil)
        #expect(code { $0.decodedFrames = 15 } == "input_video_too_long")
        #expect(code(0) { _ in } == "input_video_count_invalid")
        #expect(code(nil, FrameRate(numerator: 1001)) { _ in } == "input_video_rate_invalid")
        #expect(code(nil, FrameRate(numerator: 1, denominator: 101)) { _ in } == "input_video_rate_invalid")
    }

    @Test(
        "no single changed byte does more than change pixels or have the file refused",
        arguments: VideoContainer.allCases)
    func changedBytes(container: VideoContainer) throws {
        let bytes = try Self.file(Self.numbered(3), container, fps: 8).bytes
        var limits = InputLimits()
        limits.pixels = 100_000
        limits.frameBytes = 1 << 20
        for place in stride(from: 0, to: bytes.count, by: max(1, bytes.count / 150)) {
            var changed = bytes
            changed[place] ^= UInt8(1 << (place % 8))
            let code = Self.code {
                let video = try InputVideo(file: Tensor(bytes: changed), frames: 9, limits: limits)
                #expect(video.frameCount > 0)
            }
            #expect(
                code.map { $0.hasPrefix("input_video_") || $0 == "decoder_missing" } ?? true, "\(place): \(code ?? "")")
        }
    }
}
