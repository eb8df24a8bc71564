import CFFmpeg
import Failure

/// Formats of still pictures that can be read.
package enum ImageFormat: String, Sendable, Hashable, CaseIterable {
    case png, jpeg, webp, avif, gif, bmp, tiff

    /// FFmpeg's decoder by its name and what the codec is called.
    var decoderNames: [String] {
        switch self {
        case .jpeg: ["mjpeg"]
        case .avif: ["libdav1d", "libaom-av1"]
        default: [rawValue]
        }
    }
}

/// What the bytes of a picture say before anything is decoded.
struct ImageHeader {
    var format: ImageFormat
    /// Pixels as stored; nil where only the decoder can tell.
    var size: (width: Int, height: Int)?
    var orientation = PictureOrientation.upright

    init(_ format: ImageFormat) { self.format = format }

    /// Looks at the signature and walks the parts of the file.
    /// Throws `input_image_format_unknown`, `input_image_format_unsupported`, `input_image_corrupt`.
    static func read(_ file: ByteView) throws(Failure) -> ImageHeader {
        switch try format(file) {
        case .png: try PNGHeader.read(file)
        case .jpeg: try JPEGHeader.read(file)
        case .webp: try WebPHeader.read(file)
        case .avif: try AVIFHeader.read(file)
        case .gif: gif(file)
        case .bmp: try bmp(file)
        case .tiff: tiff(file)
        }
    }

    private static func format(_ file: ByteView) throws(Failure) -> ImageFormat {
        if file.byte(0) == 0x89, file.has("PNG\r\n\u{1A}\n", at: 1) { return .png }
        if file.byte(0) == 0xFF, file.byte(1) == 0xD8, file.byte(2) == 0xFF { return .jpeg }
        if file.has("RIFF", at: 0), file.has("WEBP", at: 8) { return .webp }
        if file.has("GIF87a", at: 0) || file.has("GIF89a", at: 0) { return .gif }
        if file.has("II*\0", at: 0) || file.has("MM\0*", at: 0) { return .tiff }
        if file.has("BM", at: 0), file.count >= 26 { return .bmp }
        if file.has("ftyp", at: 4) {
            let brands = AVIFHeader.brands(file)
            if brands.contains("avif") || brands.contains("avis") { return .avif }
            if brands.contains(where: { ["heic", "heix", "hevc", "mif1", "msf1"].contains($0) }) {
                throw unsupported("HEIC")
            }
            throw Failure(
                "input_image_format_unsupported", "This file is a video (MP4 or QuickTime), not a picture.",
                field: "image", remedy: "Give it as the input video.")
        }
        if let name = foreignName(file) { throw unsupported(name) }
        let start = (0..<min(8, file.count)).compactMap { file.byte($0) }
            .map { ($0 < 16 ? "0" : "") + String($0, radix: 16) }.joined(separator: " ")
        throw Failure(
            "input_image_format_unknown",
            file.count == 0 ? "The image is empty." : "Nobody knows this image format; the file begins with \(start).",
            field: "image", remedy: "Send a PNG, JPEG, WebP, AVIF, GIF, BMP or TIFF file.")
    }

    private static func foreignName(_ file: ByteView) -> String? {
        let signatures: [(StaticString, Int, String)] = [
            ("JXL ", 4, "JPEG XL"), ("jP  ", 4, "JPEG 2000"), ("8BPS", 0, "Photoshop"), ("%PDF", 0, "PDF"),
            ("<svg", 0, "SVG"), ("<?xml", 0, "SVG"), ("qoif", 0, "QOI"), ("DDS ", 0, "DDS"), ("P6", 0, "PPM"),
            ("P5", 0, "PGM"), ("II+\0", 0, "BigTIFF"), ("MM\0+", 0, "BigTIFF"), ("\0\0\u{1}\0", 0, "ICO"),
        ]
        if file.byte(0) == 0xFF, file.byte(1) == 0x0A { return "JPEG XL" }
        if file.big32(0) == 0x1A45_DFA3 { return "Matroska video" }
        return signatures.first { file.has($0.0, at: $0.1) }?.2
    }

    static func unsupported(_ what: String) -> Failure {
        Failure(
            "input_image_format_unsupported", "\(what) pictures cannot be read.", field: "image",
            remedy: "Convert it to PNG, JPEG, WebP or AVIF.")
    }

    static func corrupt(_ what: String) -> Failure {
        Failure(
            "input_image_corrupt", what, field: "image",
            remedy: "The file is damaged or was cut off on its way: send it again, or save it anew.")
    }

    private static func gif(_ file: ByteView) -> ImageHeader {
        var header = ImageHeader(.gif)
        if let width = file.little16(6), let height = file.little16(8) { header.size = (width, height) }
        return header
    }

    private static func bmp(_ file: ByteView) throws(Failure) -> ImageHeader {
        var header = ImageHeader(.bmp)
        if let headerSize = file.little32(14), headerSize == 12 {
            if let width = file.little16(18), let height = file.little16(20) { header.size = (width, height) }
        } else if let width = file.little32(18), let height = file.little32(22) {
            // A negative height says that the rows go from top to bottom.
            let rows = Int32(truncatingIfNeeded: height).magnitude
            header.size = (width, Int(rows))
        }
        return header
    }

    private static func tiff(_ file: ByteView) -> ImageHeader {
        var header = ImageHeader(.tiff)
        let tags = TIFFTags(file)
        if let width = tags?.width, let height = tags?.height { header.size = (width, height) }
        header.orientation = tags?.orientation ?? .upright
        return header
    }
}

/// The first directory of a TIFF structure, which EXIF is as well.
struct TIFFTags {
    private(set) var width: Int?
    private(set) var height: Int?
    private(set) var orientation: PictureOrientation?

    /// Nil when it is none. A leading `Exif\0\0` is skipped.
    init?(_ whole: ByteView) {
        let start = whole.has("Exif\0\0", at: 0) ? 6 : 0
        guard let file = whole.part(start, whole.count - start) else { return nil }
        let isBigEndian: Bool
        if file.has("MM\0*", at: 0) {
            isBigEndian = true
        } else if file.has("II*\0", at: 0) {
            isBigEndian = false
        } else {
            return nil
        }
        guard let directory = file.integer(4, size: 4, isBigEndian: isBigEndian),
            let entries = file.integer(directory, size: 2, isBigEndian: isBigEndian)
        else { return nil }
        for index in 0..<entries {
            let entry = directory + 2 + index * 12
            guard let tag = file.integer(entry, size: 2, isBigEndian: isBigEndian),
                let type = file.integer(entry + 2, size: 2, isBigEndian: isBigEndian), type == 3 || type == 4,
                let value = file.integer(entry + 8, size: type == 3 ? 2 : 4, isBigEndian: isBigEndian)
            else { continue }
            switch tag {
            case 0x100: width = value
            case 0x101: height = value
            case 0x112: orientation = PictureOrientation(rawValue: value)
            default: break
            }
        }
    }
}
