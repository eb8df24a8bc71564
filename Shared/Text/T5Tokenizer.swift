package import Failure

/// A text as the T5 encoder takes it.
package struct TokenizedText: Sendable, Hashable {
    /// Exactly `maximumLength` ids: the tokens, `</s>` (also when truncated), then padding.
    package var ids: [Int32]
    /// Ids of the whole text including `</s>`, before truncation.
    package var tokenCount: Int
    /// What truncation cut off, decoded; nil when everything fitted. The text of diffusers' warning.
    package var truncatedText: String?

    /// Whether a part of the text was cut off.
    package var truncated: Bool { truncatedText != nil }
}

/// The tokenizer of T5, with the same ids as `T5Tokenizer.from_pretrained` of transformers 5.
///
/// The text as written is searched for added tokens; what remains is normalised by the model's character map, split at
/// white space, and every word is segmented on its own with "▁" before it. There is no other cleaning.
package struct T5Tokenizer: Sendable {
    private let model: UnigramModel
    private let normalizer: PrecompiledNormalizer?
    private let added: AddedVocabulary
    private let cleansSpaces: Bool
    /// The id that fills a text up to its length.
    package let paddingID: Int32
    /// The id that ends every text.
    package let endOfSequenceID: Int32

    /// "▁", which stands for the space before a word.
    private static let spaceMark: [UInt8] = [0xe2, 0x96, 0x81]

    /// Ids run below this.
    package var vocabularyCount: Int { added.nextID }

    /// Opens a tokenizer folder: `tokenizer.json` if there is one, as transformers 5 prefers, else `spiece.model`; with
    /// either, `tokenizer_config.json` and its older companions.
    ///
    /// Errors: `tokenizer_not_found`, `tokenizer_invalid`.
    package init(folder path: String) throws(Failure) {
        let folder = TokenizerFolder(path: path)
        let found: VocabularyFile
        if let file = try VocabularyFile(tokenizerJSON: folder) {
            found = file
        } else if let file = try VocabularyFile(sentencePiece: folder) {
            found = file
        } else {
            throw Failure(
                "tokenizer_not_found", "\(path) holds neither tokenizer.json nor spiece.model.", field: "tokenizer",
                remedy: "Name a folder with a CogVideoX checkpoint in diffusers layout.")
        }
        let special = try SpecialTokens(folder: folder, vocabulary: found)
        var pieces = found.pieces
        guard pieces.count > UnigramModel.unknownID else {
            throw Failure(
                "tokenizer_invalid", "\(found.file) holds \(pieces.count) pieces; a T5 vocabulary has at least 3.",
                field: found.file)
        }
        if found.isSentencePiece {
            pieces += (0..<special.extraIDCount).reversed().map { Piece("<extra_id_\($0)>", score: 0) }
        }
        let model = try UnigramModel(pieces: pieces, file: found.file)
        var normalizer: PrecompiledNormalizer?
        if let charsmap = found.charsmap {
            normalizer = try PrecompiledNormalizer(charsmap: charsmap, file: found.file)
        }
        var added = AddedVocabulary(vocabularyCount: pieces.count)
        for token in special.tokens { added.add(token, model: model, normalizer: normalizer) }

        func id(_ content: String, _ role: String) throws(Failure) -> Int32 {
            if let id = model.id(of: Array(content.utf8)) { return Int32(id) }
            if let entry = added.tokens.first(where: { $0.token.content == content }) { return entry.id }
            throw Failure("tokenizer_invalid", "\(found.file) has no \(role) token \(content).", field: found.file)
        }
        endOfSequenceID = try id(special.endOfSequence, "end-of-sequence")
        paddingID = try id(special.padding, "padding")
        self.model = model
        self.normalizer = normalizer
        self.added = added
        cleansSpaces = special.cleansSpaces
    }

    /// Tokenises `text`, ends it with `</s>`, cuts it to `maximumLength` ids keeping `</s>` last, and pads it.
    package func encode(_ text: String, maximumLength: Int) -> TokenizedText {
        precondition(maximumLength >= 1, "a text has room for </s> at least")
        let whole = tokens(text) + [endOfSequenceID]
        guard whole.count > maximumLength else {
            let padding = [Int32](repeating: paddingID, count: maximumLength - whole.count)
            return TokenizedText(ids: whole + padding, tokenCount: whole.count, truncatedText: nil)
        }
        return TokenizedText(
            ids: whole.prefix(maximumLength - 1) + [endOfSequenceID], tokenCount: whole.count,
            truncatedText: decode(Array(whole[(maximumLength - 1)..<(whole.count - 1)])))
    }

    /// The ids of `text` without `</s>` or padding.
    package func tokens(_ text: String) -> [Int32] {
        var ids: [Int32] = []
        for segment in added.split(Array(text.utf8), normalized: false) {
            guard case .text(let written) = segment else {
                if case .token(let id) = segment { ids.append(id) }
                continue
            }
            let normalized = normalizer?.normalize(String(decoding: written, as: UTF8.self)) ?? written
            for segment in added.split(normalized, normalized: true) {
                switch segment {
                case .token(let id): ids.append(id)
                case .text(let text): for part in Self.parts(of: text) { ids += model.encode(part) }
                }
            }
        }
        return ids
    }

    /// The text of `ids`: "▁" becomes a space, but nothing in the first token; special tokens are spelt out; ids
    /// outside the vocabulary give nothing. A folder that sets `clean_up_tokenization_spaces` gets no space before
    /// punctuation.
    package func decode(_ ids: [Int32]) -> String {
        var text = ""
        var isFirst = true
        for id in ids {
            let token: String
            if let content = added.content(of: Int(id)) {
                token = content
            } else if model.pieces.indices.contains(Int(id)) {
                token = String(decoding: model.pieces[Int(id)].bytes, as: UTF8.self)
            } else {
                continue
            }
            for scalar in token.unicodeScalars {
                if scalar != "▁" {
                    text.unicodeScalars.append(scalar)
                } else if !isFirst {
                    text.unicodeScalars.append(" ")
                }
            }
            isFirst = false
        }
        return cleansSpaces ? withoutSpacesBeforePunctuation(text) : text
    }

    /// Splits at white space, puts "▁" before every word that does not begin with it, and begins a new part at every
    /// "▁".
    private static func parts(of text: [UInt8]) -> [ArraySlice<UInt8>] {
        var parts: [ArraySlice<UInt8>] = []
        let scalars = String(decoding: text, as: UTF8.self).unicodeScalars
        for word in scalars.split(whereSeparator: { $0.properties.isWhitespace }) {
            var bytes = Array(String(word).utf8)
            if !bytes.starts(with: spaceMark) { bytes = spaceMark + bytes }
            var start = 0
            for index in 1..<bytes.count where bytes[index...].starts(with: spaceMark) {
                parts.append(bytes[start..<index])
                start = index
            }
            parts.append(bytes[start...])
        }
        return parts
    }
}

/// transformers' `clean_up_tokenization`, scalar by scalar as Python replaces.
private func withoutSpacesBeforePunctuation(_ text: String) -> String {
    let rules = [
        (" .", "."), (" ?", "?"), (" !", "!"), (" ,", ","), (" ' ", "'"), (" n't", "n't"), (" 'm", "'m"), (" 's", "'s"),
        (" 've", "'ve"), (" 're", "'re"),
    ]
    let cleaned = rules.reduce(Array(text.utf8)) { text, rule in
        let (pattern, replacement) = (Array(rule.0.utf8), Array(rule.1.utf8))
        var result: [UInt8] = []
        var index = 0
        while index < text.count {
            if text[index...].starts(with: pattern) {
                result += replacement
                index += pattern.count
            } else {
                result.append(text[index])
                index += 1
            }
        }
        return result
    }
    return String(decoding: cleaned, as: UTF8.self)
}
