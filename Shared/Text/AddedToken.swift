/// A token that is cut out of the text before the model sees it, such as `</s>` or `<extra_id_0>`.
struct AddedToken: Sendable {
    var content: String
    /// Also swallow white space before or after it.
    var stripsLeft = false
    var stripsRight = false
    /// Only where no word character adjoins it.
    var isSingleWord = false
    /// Sought in the normalised text instead of the text as written.
    var isNormalized = false

    init(_ content: String) { self.content = content }

    /// From a string, or from an object as tokenizer.json, tokenizer_config.json and special_tokens_map.json write it.
    init?(_ json: JSONField, isSpecial: Bool = false) {
        switch json {
        case .string(let content): self.content = content
        case .object(let fields):
            guard case .string(let content)? = fields["content"] else { return nil }
            self.content = content
            stripsLeft = fields["lstrip"] == .bool(true)
            stripsRight = fields["rstrip"] == .bool(true)
            isSingleWord = fields["single_word"] == .bool(true)
            let isSpecial = isSpecial || fields["special"] == .bool(true)
            isNormalized = fields["normalized"].map { $0 == .bool(true) } ?? !isSpecial
        default: return nil
        }
    }
}

/// The added tokens of a tokenizer with their ids, in the order and by the rules of the tokenizers library.
struct AddedVocabulary: Sendable {
    private(set) var tokens: [(token: AddedToken, id: Int32)] = []
    private var patterns = ByteTrie()
    private var normalizedPatterns = ByteTrie()
    private var known: Set<[UInt8]> = []
    /// Above every id of the vocabulary and of the tokens added so far.
    private(set) var nextID: Int

    init(vocabularyCount: Int) { nextID = vocabularyCount }

    /// Adds a token under its id in the vocabulary, or under the next free id. A token already added stays as it is.
    mutating func add(_ token: AddedToken, model: UnigramModel, normalizer: PrecompiledNormalizer?) {
        let bytes = Array(token.content.utf8)
        guard !bytes.isEmpty, known.insert(bytes).inserted else { return }
        let id = Int32(model.id(of: bytes) ?? nextID)
        nextID = max(nextID, Int(id) + 1)
        let index = Int32(tokens.count)
        tokens.append((token, id))
        if token.isNormalized {
            let normalized = normalizer?.normalize(token.content) ?? bytes
            if !normalized.isEmpty { normalizedPatterns.insert(normalized, value: index) }
        } else {
            patterns.insert(bytes, value: index)
        }
    }

    func content(of id: Int) -> String? { tokens.first { Int($0.id) == id }?.token.content }

    enum Segment {
        case text([UInt8])
        case token(Int32)
    }

    /// Cuts added tokens out: at each place the longest one, earlier places first.
    func split(_ text: [UInt8], normalized: Bool) -> [Segment] {
        let patterns = normalized ? normalizedPatterns : patterns
        var segments: [Segment] = []
        var position = 0
        var begin = 0
        while position < text.count {
            var match: (end: Int, index: Int)?
            patterns.forEachPrefix(of: text[position...]) { match = ($0, Int($1)) }
            guard let match else {
                position += 1
                continue
            }
            let (token, id) = tokens[match.index]
            if token.isSingleWord, isWord(text[..<position], last: true) || isWord(text[match.end...], last: false) {
                position = match.end
                continue
            }
            let start = token.stripsLeft ? max(begin, position - trailingSpace(text[..<position])) : position
            let end = token.stripsRight ? match.end + leadingSpace(text[match.end...]) : match.end
            if begin < start { segments.append(.text(Array(text[begin..<start]))) }
            segments.append(.token(id))
            begin = end
            position = max(match.end, end)
        }
        if begin < text.count { segments.append(.text(Array(text[begin...]))) }
        return segments
    }

    private func leadingSpace(_ text: ArraySlice<UInt8>) -> Int {
        String(decoding: text, as: UTF8.self).unicodeScalars.prefix { $0.properties.isWhitespace }
            .reduce(0) { $0 + UTF8.width($1) }
    }

    private func trailingSpace(_ text: ArraySlice<UInt8>) -> Int {
        String(decoding: text, as: UTF8.self).unicodeScalars.reversed().prefix { $0.properties.isWhitespace }
            .reduce(0) { $0 + UTF8.width($1) }
    }

    /// Whether the character at the edge of `text` is a word character (`\w` of Unicode TR 18).
    private func isWord(_ text: ArraySlice<UInt8>, last: Bool) -> Bool {
        let scalars = String(decoding: text, as: UTF8.self).unicodeScalars
        guard let scalar = last ? scalars.last : scalars.first else { return false }
        if scalar.properties.isAlphabetic || scalar.properties.isJoinControl { return true }
        switch scalar.properties.generalCategory {
        case .nonspacingMark, .spacingMark, .enclosingMark, .decimalNumber, .connectorPunctuation: return true
        default: return false
        }
    }
}
