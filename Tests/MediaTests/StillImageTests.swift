import Failure
import Foundation
import Media
import Tensor
import Testing

@Suite("Still pictures and contact sheets")
struct StillImageTests {
    @Test("a PNG comes back exactly, odd sizes too", arguments: [(1, 1), (3, 5), (31, 17), (64, 48)])
    func png(width: Int, height: Int) throws {
        try withFolder { folder in
            let path = folder.appending(path: "a.png").path()
            var random = SystemRandomNumberGenerator()
            let bytes = (0..<(width * height * 3)).map { _ in UInt8.random(in: 0...255, using: &random) }
            let picture = Tensor(bytes: bytes).reshaped([height, width, 3])
            try PNGWriter.write(picture, path: path)
            let read = try VideoReader(path: path).frames()
            #expect(read.shape == [1, height, width, 3] && read.bytes == bytes)
            #expect(try MediaProbe(path: path).codec == "png")
        }
    }

    @Test("a JPEG comes back close, colours included")
    func jpeg() throws {
        try withFolder { folder in
            let path = folder.appending(path: "a.jpg").path()
            let picture = movingGradient(count: 1, width: 61, height: 45).reshaped([45, 61, 3])
            try Data(JPEGEncoder.encode(picture)).write(to: URL(filePath: path))
            let read = try VideoReader(path: path).frames()
            #expect(signalToNoise(read.reshaped([45, 61, 3]), picture) > 32)
            #expect(try JPEGEncoder.encode(picture, quality: 31).count < JPEGEncoder.encode(picture, quality: 2).count)
        }
    }

    @Test("pictures of the wrong shape or in the wrong place are refused")
    func refusals() throws {
        let flat = Tensor(zeros: [4, 4], dtype: .uint8)
        #expect { try PNGWriter.encode(flat) } throws: { ($0 as? Failure)?.code == "frames_shape_invalid" }
        #expect { try JPEGEncoder.encode(flat) } throws: { ($0 as? Failure)?.code == "frames_shape_invalid" }
        let picture = Tensor(zeros: [4, 4, 3], dtype: .uint8)
        #expect {
            try PNGWriter.write(picture, path: "/nonexistent/a.png")
        } throws: {
            ($0 as? Failure)?.code == "image_write_failed" && ($0 as? Failure)?.message.contains("No such file") == true
        }
    }

    @Test("a contact sheet shows the first, the last and evenly spaced frames in rows")
    func contactSheet() throws {
        // Frame t is of the one colour (10t, 0, 255 − 10t).
        var bytes: [UInt8] = []
        for t: UInt8 in 0..<21 {
            for _ in 0..<(16 * 24) { bytes += [t * 10, 0, 255 - t * 10] }
        }
        let frames = Tensor(bytes: bytes).reshaped([21, 16, 24, 3])
        let sheet = try ContactSheet.render(frames: frames, columns: 3, maximumFrames: 5, scale: 0.5)
        #expect(sheet.shape == [28, 52, 3])
        let pixels = sheet.bytes
        func red(_ row: Int, _ column: Int) -> UInt8 {
            let (y, x) = (8 + row * 12, 10 + column * 16)
            return pixels[(y * sheet.shape[1] + x) * 3]
        }
        let reds: [UInt8] = [red(0, 0), red(0, 1), red(0, 2), red(1, 0), red(1, 1)]
        #expect(reds == [0, 50, 100, 150, 200])
        #expect(red(1, 2) == 24 && pixels[0] == 24)
    }

    @Test("a contact sheet of fewer frames than columns is as wide as its frames")
    func shortContactSheet() throws {
        let frames = movingGradient(count: 2, width: 20, height: 10)
        let sheet = try ContactSheet.render(frames: frames)
        #expect(sheet.shape == [18, 52, 3])
        let row = sheet.rows(4..<5).bytes
        #expect(Array(row[12..<(12 + 60)]) == Array(frames.bytes[0..<60]))
    }

    @Test("impossible contact sheets are refused")
    func wrongContactSheets() {
        let frames = Tensor(zeros: [2, 4, 4, 3], dtype: .uint8)
        for (columns, maximum, scale) in [(0, 1, 1.0), (1, 0, 1.0), (1, 1, 0.0), (1, 1, .nan), (1, 1, 9.0)] {
            #expect {
                try ContactSheet.render(frames: frames, columns: columns, maximumFrames: maximum, scale: scale)
            } throws: { ($0 as? Failure)?.code == "contact_sheet_invalid" }
        }
        #expect(throws: Failure.self) { try ContactSheet.render(frames: Tensor(zeros: [0, 4, 4, 3], dtype: .uint8)) }
    }
}
