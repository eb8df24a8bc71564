import Failure
import Foundation
import Media
import Tensor
import Testing

@Suite("Reading pictures")
struct InputImageTests {
    /// Levels by which a decoded file may differ from what Pillow gives; everything else is equal.
    static func tolerance(_ name: String) -> Int {
        switch name {
        // Ours and libavif's chroma filters and roundings differ.
        case _ where name.hasSuffix(".avif"): 4
        // One level of a transformed sample, which the colour matrix widens.
        case _ where name.hasSuffix(".jpg"): 3
        default: 0
        }
    }

    @Test("every kind of picture comes out as Pillow converts it", arguments: try MediaFixtures.imageNames())
    func asPillow(name: String) throws {
        guard name != "animated.webp" else { return }
        let image = try InputImage(bytes: try MediaFixtures.bytes(name))
        let wanted = try MediaFixtures.tensors("images").tensor(name)
        #expect(image.pixels.shape == wanted.shape)
        #expect(image.width == wanted.shape[1] && image.height == wanted.shape[0])
        let difference = largestDifference(image.pixels, wanted)
        #expect(difference <= Self.tolerance(name), "\(name) differs by \(difference) levels")
        let sum = zip(image.pixels.bytes, wanted.bytes).reduce(0) { $0 + abs(Int($1.0) - Int($1.1)) }
        #expect(Double(sum) / Double(wanted.count) < 0.6, "\(name) differs by more than rounding")
        if difference > 0 { print("\(name): at most \(difference), on average \(Double(sum) / Double(wanted.count))") }
    }

    @Test("what was lost or turned is noted")
    func notes() throws {
        func notes(_ name: String) throws -> String {
            try InputImage(bytes: try MediaFixtures.bytes(name)).notes.joined(separator: ", ")
        }
        #expect(try notes("rgb.png").isEmpty)
        #expect(try notes("rgba.png") == "transparency was dropped")
        #expect(try notes("grey16.png") == "16-bit samples were cut to 8 bits")
        #expect(try notes("exif6.jpg") == "turned upright from EXIF orientation 6")
        #expect(try InputImage(bytes: try MediaFixtures.bytes("exif8.webp")).format == .webp)
    }

    private func code(_ bytes: [UInt8], _ limits: InputLimits = InputLimits()) -> String? {
        do {
            _ = try InputImage(bytes: bytes, limits: limits)
            return nil
        } catch {
            return error.message.isEmpty ? "no message" : error.code
        }
    }

    @Test("files of other kinds are refused by name")
    func otherKinds() throws {
        #expect(code([]) == "input_image_format_unknown")
        #expect(code(Array("hello, this is no picture".utf8)) == "input_image_format_unknown")
        #expect(code(Array("<svg xmlns='http://www.w3.org/2000/svg'/>".utf8)) == "input_image_format_unsupported")
        #expect(code([0xFF, 0x0A, 0, 0, 0, 0, 0, 0]) == "input_image_format_unsupported")
        #expect(code(try MediaFixtures.bytes("animated.webp")) == "input_image_format_unsupported")
        let heic: [UInt8] = [0, 0, 0, 24] + Array("ftypheic".utf8) + [0, 0, 0, 0] + Array("mif1heic".utf8)
        let mp4: [UInt8] = [0, 0, 0, 24] + Array("ftypisom".utf8) + [0, 0, 0, 0] + Array("isommp42".utf8)
        #expect(throws: Failure.self) { try InputImage(bytes: heic) }
        #expect { try InputImage(bytes: mp4) } throws: { ($0 as? Failure)?.message.contains("video") == true }
    }

    @Test(
        "a file that was cut off is refused, wherever it was cut",
        arguments: ["rgb.png", "420.jpg", "420_progressive.jpg", "lossy.webp", "lossless.webp", "444.avif"])
    func cutOff(name: String) throws {
        let bytes = try MediaFixtures.bytes(name)
        for count in [bytes.count - 2, bytes.count * 3 / 4, bytes.count / 2, 40, 17] {
            #expect(code(Array(bytes.prefix(count))) == "input_image_corrupt", "\(name) of \(count) bytes")
        }
    }

    @Test("a PNG with damaged pixels is refused")
    func damaged() throws {
        var bytes = try MediaFixtures.bytes("rgb.png")
        bytes[bytes.count / 2] ^= 0x10
        #expect(code(bytes) == "input_image_corrupt")
    }

    @Test("a picture that is too big is refused before it is decoded")
    func tooBig() throws {
        var limits = InputLimits()
        limits.pixels = 19 * 13 - 1
        for name in ["rgb.png", "exif1.jpg", "lossless.webp", "444.avif", "rgb.bmp", "rgb.tiff"] {
            #expect(code(try MediaFixtures.bytes(name), limits) == "input_image_too_many_pixels", "\(name)")
        }
        limits.pixels += 1
        #expect(code(try MediaFixtures.bytes("rgb.png"), limits) == nil)
        limits.side = 18
        #expect(code(try MediaFixtures.bytes("rgb.png"), limits) == "input_image_too_many_pixels")

        // Forty bytes that promise two billion pixels each way.
        var bomb = try MediaFixtures.bytes("rgb.png")
        bomb.replaceSubrange(16..<24, with: [0x7F, 0xFF, 0xFF, 0xFF, 0x7F, 0xFF, 0xFF, 0xFF])
        #expect(code(bomb) == "input_image_too_many_pixels")

        limits = InputLimits()
        limits.imageBytes = 100
        #expect(code(try MediaFixtures.bytes("rgb.png"), limits) == "input_image_too_many_bytes")
    }

    @Test("a picture of no pixels is refused")
    func noPixels() throws {
        var bytes = try MediaFixtures.bytes("rgb.png")
        bytes.replaceSubrange(16..<20, with: [0, 0, 0, 0])
        #expect(code(bytes) == "input_image_corrupt")
    }

    @Test("no single changed byte does more than change pixels or have the file refused")
    func changedBytes() throws {
        var limits = InputLimits()
        limits.pixels = 1_000_000
        var (accepted, refused) = (0, 0)
        for name in ["palette.png", "420_narrow.jpg", "lossless_alpha.webp", "exif6.png", "still.gif", "grey.tiff"] {
            let bytes = try MediaFixtures.bytes(name)
            for place in stride(from: 0, to: bytes.count, by: 3) {
                var changed = bytes
                changed[place] ^= UInt8(1 << (place % 8))
                switch code(changed, limits) {
                case nil: accepted += 1
                case .some(let code):
                    refused += 1
                    #expect(code.hasPrefix("input_image_"), "\(name) at \(place): \(code)")
                }
            }
        }
        #expect(accepted > 0 && refused > 0)
    }
}
