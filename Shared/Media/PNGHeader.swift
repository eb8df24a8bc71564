import Failure

/// The chunks of a PNG file (ISO/IEC 15948, §5).
enum PNGHeader {
    /// Throws `input_image_corrupt` when the file does not reach its IEND chunk.
    static func read(_ file: ByteView) throws(Failure) -> ImageHeader {
        var header = ImageHeader(.png)
        var place = 8
        while let length = file.big32(place), let chunk = file.part(place + 8, length) {
            if file.has("IHDR", at: place + 4), let width = chunk.big32(0), let height = chunk.big32(4) {
                header.size = (width, height)
            } else if file.has("eXIf", at: place + 4) {
                header.orientation = TIFFTags(chunk)?.orientation ?? .upright
            } else if file.has("IEND", at: place + 4) {
                guard header.size != nil else { break }
                return header
            }
            place += 12 + length
        }
        throw ImageHeader.corrupt("This PNG ends at byte \(file.count) without its last chunk.")
    }
}
