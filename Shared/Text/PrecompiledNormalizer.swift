import Failure

/// SentencePiece's compiled normalisation rules (`precompiled_charsmap`, for T5 `nmt_nfkc`), applied as the tokenizers
/// library does: a grapheme cluster of under 6 bytes as a whole if it matches, else character by character.
///
/// The map is a darts-clone double array, preceded by its length in bytes as a little-endian 32-bit number, and
/// followed by NUL-terminated replacement strings; a leaf's value is the offset of its replacement.
struct PrecompiledNormalizer: Sendable {
    private let units: [UInt32]
    private let replacements: [UInt8]

    init(charsmap: [UInt8], file: String) throws(Failure) {
        func word(_ offset: Int) -> UInt32 { (0..<4).reduce(0) { $0 | UInt32(charsmap[offset + $1]) << (8 * $1) } }
        guard charsmap.count >= 8, case let length = Int(word(0)), length >= 4, length % 4 == 0,
            length <= charsmap.count - 4, String(validating: charsmap[(4 + length)...], as: UTF8.self) != nil
        else {
            throw Failure("tokenizer_invalid", "The normalisation map in \(file) is damaged.", field: file)
        }
        units = stride(from: 4, to: 4 + length, by: 4).map(word)
        replacements = Array(charsmap[(4 + length)...])
    }

    /// The UTF-8 of `text` after all replacements.
    func normalize(_ text: String) -> [UInt8] {
        var result: [UInt8] = []
        result.reserveCapacity(text.utf8.count)
        for grapheme in text {
            let bytes = Array(grapheme.utf8)
            if bytes.count < 6, let replacement = replacement(for: bytes[...]) {
                result += replacement
                continue
            }
            var start = 0
            while start < bytes.count {
                let end = min(start + utf8Length(bytes[start]), bytes.count)
                result += replacement(for: bytes[start..<end]) ?? bytes[start..<end]
                start = end
            }
        }
        return result
    }

    /// What replaces `text`: the rule of its shortest matching prefix, as the tokenizers library looks rules up.
    private func replacement(for text: ArraySlice<UInt8>) -> ArraySlice<UInt8>? {
        guard var unit = units.first else { return nil }
        var position = Self.offset(unit)
        for byte in text where byte != 0 {
            position ^= Int(byte)
            guard units.indices.contains(position) else { return nil }
            unit = units[position]
            guard unit & 0x8000_00ff == UInt32(byte) else { return nil }
            position ^= Self.offset(unit)
            if unit & 0x100 != 0 {
                guard units.indices.contains(position) else { return nil }
                let start = Int(units[position] & 0x7fff_ffff)
                guard start <= replacements.count else { return nil }
                return replacements[start...].prefix { $0 != 0 }
            }
        }
        return nil
    }

    /// The node's distance to its children; bit 9 says that it counts in steps of 256.
    private static func offset(_ unit: UInt32) -> Int { Int((unit >> 10) << ((unit & 0x200) >> 6)) }
}
