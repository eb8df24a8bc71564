import Failure

/// The segments of a JPEG file (ITU-T T.81, annex B).
enum JPEGHeader {
    /// Throws `input_image_corrupt` when no end-of-image marker follows the scans, `input_image_format_unsupported` for
    /// codings that FFmpeg cannot decode.
    static func read(_ file: ByteView) throws(Failure) -> ImageHeader {
        var header = ImageHeader(.jpeg)
        var place = 2
        var isAfterScan = false
        var sawExif = false
        while let marker = nextMarker(file, &place, skippingData: isAfterScan) {
            if marker == 0xD9 {
                guard isAfterScan, header.size != nil else { break }
                return header
            }
            // Restart markers and TEM have no length.
            if (0xD0...0xD8).contains(marker) || marker == 0x01 { continue }
            guard let length = file.big16(place), length >= 2, let segment = file.part(place + 2, length - 2) else {
                break
            }
            place += length
            switch marker {
            case 0xC0...0xCF where ![0xC4, 0xC8, 0xCC].contains(marker):
                try check(marker, segment)
                if let height = segment.big16(1), let width = segment.big16(3) { header.size = (width, height) }
            case 0xE1 where !sawExif && segment.has("Exif\0\0", at: 0):
                sawExif = true
                header.orientation = TIFFTags(segment)?.orientation ?? .upright
            case 0xDA: isAfterScan = true
            default: break
            }
        }
        throw ImageHeader.corrupt("This JPEG ends at byte \(file.count) without its end-of-image marker.")
    }

    /// The marker at or after `place`, which moves behind it. Between segments fill bytes are allowed, within a scan
    /// its data.
    private static func nextMarker(_ file: ByteView, _ place: inout Int, skippingData: Bool) -> Int? {
        while let byte = file.byte(place) {
            place += 1
            guard byte == 0xFF else {
                if skippingData { continue }
                return nil
            }
            while file.byte(place) == 0xFF { place += 1 }
            guard let marker = file.byte(place) else { return nil }
            place += 1
            // A zero after 0xFF is a data byte.
            if marker != 0 { return marker }
            if !skippingData { return nil }
        }
        return nil
    }

    private static func check(_ marker: Int, _ segment: ByteView) throws(Failure) {
        if marker >= 0xC9 { throw ImageHeader.unsupported("Arithmetically coded JPEG") }
        if [0xC5, 0xC6, 0xC7].contains(marker) { throw ImageHeader.unsupported("Hierarchical JPEG") }
        if let bits = segment.byte(0), bits != 8, marker != 0xC3 {
            throw ImageHeader.unsupported("JPEG pictures with \(bits) bits a sample, and such")
        }
    }
}
