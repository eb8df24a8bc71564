import Failure
import Foundation
import Media
import Tensor
import Testing

@Suite("A video that is encoded before its file is written")
struct EncodedVideoTests {
    private let rate = FrameRate(numerator: 8)!
    private let metadata = ["title": "a red fox", "comment": "{\"seed\": 7}"]

    private func encoded(_ frames: Tensor, _ container: VideoContainer, pieces: [Int]) throws -> EncodedVideo {
        let encoder = try VideoEncoder(
            container: container, width: frames.shape[2], height: frames.shape[1], framesPerSecond: rate, threads: 1)
        var first = 0
        for count in pieces {
            try encoder.append(frames: frames.rows(first..<first + count))
            first += count
        }
        return try encoder.finish()
    }

    @Test(
        "its file has the bytes of one that was written at once, however the frames came and however often it is written",
        arguments: [VideoContainer.mp4, .webm, .mkv])
    func sameBytes(container: VideoContainer) throws {
        try withFolder { folder in
            let frames = movingGradient(count: 33, width: 64, height: 48)
            let path = folder.appending(path: "at-once.\(container.fileExtension)").path()
            let writer = try VideoWriter(
                path: path, container: container, width: 64, height: 48, framesPerSecond: rate, metadata: metadata,
                threads: 1)
            try writer.append(frames: frames)
            try writer.finish()
            let expected = try Data(contentsOf: URL(filePath: path))
            let video = try encoded(frames, container, pieces: [1, 8, 8, 16])
            #expect(video.frameCount == 33 && video.byteCount > 0 && video.byteCount < expected.count)
            for name in ["first", "second"] {
                let other = folder.appending(path: "\(name).\(container.fileExtension)").path()
                try video.write(path: other, metadata: metadata)
                #expect(try Data(contentsOf: URL(filePath: other)) == expected)
            }
            let names = try FileManager.default.contentsOfDirectory(atPath: folder.path())
            #expect(names.count == 3, "nothing temporary is left: \(names)")
        }
    }

    /// Makes glibc fill the memory that it hands out, in the whole process; 0 lets it be.
    private static var perturb: (Int32) -> Void {
        get throws {
            typealias Mallopt = @convention(c) (Int32, Int32) -> Int32
            let mallopt = unsafeBitCast(try #require(dlsym(nil, "mallopt")), to: Mallopt.self)
            // M_PERTURB of malloc.h, which Swift's Glibc leaves out.
            return { _ = mallopt(-6, $0) }
        }
    }

    @Test(
        "the same frames give the same bytes, whatever was in the memory that the encoder takes",
        arguments: [VideoContainer.mp4, .webm, .mkv])
    func reproducible(container: VideoContainer) throws {
        let perturb = try Self.perturb
        defer { perturb(0) }
        try withFolder { folder in
            let frames = movingGradient(count: 33, width: 64, height: 48)
            let files = try [1, 85, 170].map { (filling: Int32) in
                perturb(filling)
                let path = folder.appending(path: "\(filling).\(container.fileExtension)")
                try encoded(frames, container, pieces: [33]).write(path: path.path(), metadata: metadata)
                return try Data(contentsOf: path)
            }
            #expect(Set(files).count == 1, "\(files.map(\.count)) bytes")
        }
    }

    @Test("frames of another size, no frames, a GIF and a folder that is not there are refused")
    func refused() throws {
        let frames = movingGradient(count: 2, width: 64, height: 48)
        let encoder = try VideoEncoder(container: .mp4, width: 64, height: 50, framesPerSecond: rate)
        #expect(throws: Failure.self) { try encoder.append(frames: frames) }
        let empty = #expect(throws: Failure.self) { _ = try encoder.finish() }
        #expect(empty?.code == "video_empty")
        #expect(throws: Failure.self) {
            _ = try VideoEncoder(container: .gif, width: 64, height: 48, framesPerSecond: rate)
        }
        let video = try encoded(frames, .mp4, pieces: [2])
        let failure = #expect(throws: Failure.self) { try video.write(path: "/nowhere/video.mp4", metadata: [:]) }
        #expect(failure?.code == "video_write_failed")
    }
}
