import Failure

/// The RIFF chunks of a WebP file (RFC 9649).
enum WebPHeader {
    /// Throws `input_image_corrupt` for a file shorter than it says, `input_image_format_unsupported` for animations.
    static func read(_ file: ByteView) throws(Failure) -> ImageHeader {
        var header = ImageHeader(.webp)
        guard let size = file.little32(4), size <= file.count - 8 else {
            throw ImageHeader.corrupt("This WebP is shorter than it says: \(file.count) bytes.")
        }
        var place = 12
        var hasPicture = false
        while place + 8 <= size + 8, let length = file.little32(place + 4) {
            guard let chunk = file.part(place + 8, length) else {
                throw ImageHeader.corrupt("A chunk of this WebP goes beyond its end.")
            }
            if file.has("VP8X", at: place), let flags = chunk.byte(0) {
                if flags & 0x02 != 0 { throw ImageHeader.unsupported("Animated WebP") }
            } else if file.has("VP8 ", at: place), let width = chunk.little16(6), let height = chunk.little16(8) {
                header.size = (width & 0x3FFF, height & 0x3FFF)
                hasPicture = true
            } else if file.has("VP8L", at: place), let bits = chunk.little32(1) {
                header.size = (bits & 0x3FFF + 1, bits >> 14 & 0x3FFF + 1)
                hasPicture = true
            } else if file.has("EXIF", at: place) {
                header.orientation = TIFFTags(chunk)?.orientation ?? .upright
            }
            place += 8 + length + length & 1
        }
        guard hasPicture else { throw ImageHeader.corrupt("This WebP holds no picture.") }
        return header
    }
}
