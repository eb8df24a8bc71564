/// How a decoder made a clip beyond what its task says: it finds others to share the work with, or not, and may have too
/// little memory for the exact way. Both show in the last bits of the frames or more, so the file tells.
package enum DecodeManner: Sendable, Hashable {
    /// One decoder, exactly, or in tiles where the task asks for them.
    case asAsked
    /// Rows of the image by so many decoders, at least two (docs/decisions/0014-decodes-shared-by-rows.md).
    case shared(Int)
    /// In tiles, which nobody had asked for.
    case tiles

    /// `decoders=3`, `tiles`, or nothing for what was asked: what a decoder says when its task is done.
    package var text: String {
        switch self {
        case .asAsked: ""
        case .shared(let members): members > 1 ? "decoders=\(members)" : ""
        case .tiles: "tiles"
        }
    }

    /// Reads `text`; what is not known counts as nothing.
    package init(text: String) {
        let parts = text.split(separator: "=", maxSplits: 1)
        if text == "tiles" {
            self = .tiles
        } else if parts.count == 2, parts[0] == "decoders", let members = Int(parts[1]),
            RequestLimits.decodeWorkers.contains(members), members > 1
        {
            self = .shared(members)
        } else {
            self = .asAsked
        }
    }
}
