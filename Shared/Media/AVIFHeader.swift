import Failure

/// The boxes of an AVIF file that matter before decoding (ISO/IEC 23008-12).
enum AVIFHeader {
    /// Major and compatible brands of the `ftyp` box.
    static func brands(_ file: ByteView) -> [String] {
        guard let length = file.big32(0) else { return [] }
        let end = min(length, file.count, 1024)
        return (Array(stride(from: 8, to: end - 3, by: 8).prefix(1)) + Array(stride(from: 16, to: end - 3, by: 4))).map
        { place in
            String(decoding: file.bytes[place..<(place + 4)], as: UTF8.self)
        }
    }

    /// Throws `input_image_corrupt` for a box that goes beyond the end of the file.
    static func read(_ file: ByteView) throws(Failure) -> ImageHeader {
        var header = ImageHeader(.avif)
        var turns = 0
        var mirror: Int?
        for (kind, box) in try boxes(file) where kind == "meta" {
            guard let body = box.part(4, box.count - 4) else { continue }
            for (_, properties) in try boxes(body).filter({ $0.kind == "iprp" }) {
                for (_, container) in try boxes(properties).filter({ $0.kind == "ipco" }) {
                    for (kind, property) in try boxes(container) {
                        switch kind {
                        case "ispe":
                            guard let width = property.big32(4), let height = property.big32(8) else { continue }
                            let known = header.size ?? (0, 0)
                            header.size = (max(width, known.width), max(height, known.height))
                        case "irot": turns = (property.byte(0) ?? 0) & 3
                        case "imir": mirror = property.byte(0).map { $0 & 1 }
                        default: break
                        }
                    }
                }
            }
        }
        header.orientation = orientation(turns: turns, mirror: mirror)
        return header
    }

    /// Quarter turns counterclockwise first, then a mirror: axis 0 swaps top and bottom, 1 left and right.
    private static func orientation(turns: Int, mirror: Int?) -> PictureOrientation {
        let plain: [PictureOrientation] = [.upright, .counterclockwise, .upsideDown, .clockwise]
        let swapped: [PictureOrientation] = [.flipped, .transposed, .mirrored, .transversed]
        switch mirror {
        case 0: return swapped[turns]
        case 1: return swapped[(turns + 2) & 3]
        default: return plain[turns]
        }
    }

    private static func boxes(_ file: ByteView) throws(Failure) -> [(kind: String, body: ByteView)] {
        var found: [(kind: String, body: ByteView)] = []
        var place = 0
        while place + 8 <= file.count, found.count < 4096, let short = file.big32(place) {
            var (length, headerLength) = (short, 8)
            if short == 1, let high = file.big32(place + 8), let low = file.big32(place + 12) {
                (length, headerLength) = (high > 0 ? Int.max : low, 16)
            } else if short == 0 {
                length = file.count - place
            }
            guard length >= headerLength, let body = file.part(place + headerLength, length - headerLength) else {
                throw ImageHeader.corrupt("A box of this AVIF goes beyond its end.")
            }
            let kind = String(decoding: file.bytes[(place + 4)..<(place + 8)], as: UTF8.self)
            found.append((kind, body))
            place += length
        }
        return found
    }
}
