import Failure

/// The special tokens that a tokenizer folder declares, gathered as transformers 5 does for `T5Tokenizer`.
struct SpecialTokens {
    /// Everything to add to the vocabulary, in order.
    private(set) var tokens: [AddedToken] = []
    private(set) var endOfSequence = "</s>"
    private(set) var padding = "<pad>"
    /// n of `<extra_id_0>` to `<extra_id_(n−1)>`.
    private(set) var extraIDCount = 100
    /// Whether decoding drops spaces before punctuation.
    private(set) var cleansSpaces = false

    init(folder: TokenizerFolder, vocabulary: VocabularyFile) throws(Failure) {
        var config = try folder.json("tokenizer_config.json", as: [String: JSONField].self) ?? [:]
        if config["extra_special_tokens"].isEmptyOrNull,
            let additional = config.removeValue(forKey: "additional_special_tokens")
        {
            config["extra_special_tokens"] = additional
        }
        if case .number(let count)? = config["extra_ids"], let count = Int(exactly: count),
            (0...100_000).contains(count)
        {
            extraIDCount = count
        }
        cleansSpaces = config["clean_up_tokenization_spaces"] == .bool(true)
        if case .object(let declared)? = config["added_tokens_decoder"] {
            let entries = declared.compactMap { key, value in Int(key).map { ($0, value) } }.sorted { $0.0 < $1.0 }
            tokens = entries.compactMap { AddedToken($0.1) }
        } else {
            tokens = try Self.legacyTokens(folder, vocabulary, &config)
        }
        let named = try named(config)
        tokens += named + extras(config, vocabulary)
    }

    /// Without `added_tokens_decoder`: special_tokens_map.json fills the configuration, and the tokens come from
    /// added_tokens.json and tokenizer.json.
    private static func legacyTokens(
        _ folder: TokenizerFolder, _ vocabulary: VocabularyFile, _ config: inout [String: JSONField]
    ) throws(Failure) -> [AddedToken] {
        if let map = try folder.json("special_tokens_map.json", as: [String: JSONField].self) {
            config.merge(map) { $1 }
        }
        var byID: [Int: AddedToken] = [:]
        if let added = try folder.json("added_tokens.json", as: [String: Int].self) {
            var special: Set<String> = []
            for (key, value) in config where key.hasSuffix("_token") {
                if let token = AddedToken(value) { special.insert(token.content) }
            }
            if case .array(let list)? = config["extra_special_tokens"] {
                special.formUnion(list.compactMap { AddedToken($0)?.content })
            }
            for (content, id) in added {
                var token = AddedToken(content)
                token.isNormalized = !special.contains(content)
                byID[id] = token
            }
        }
        if !vocabulary.isSentencePiece {
            for (id, token) in vocabulary.addedTokens { byID[id] = token }
        }
        return byID.sorted { $0.key < $1.key }.map(\.value)
    }

    /// `eos_token`, `unk_token`, `pad_token` and their like.
    private mutating func named(_ config: [String: JSONField]) throws(Failure) -> [AddedToken] {
        var values: [String: JSONField] = [
            "eos_token": .string(endOfSequence), "unk_token": .string("<unk>"), "pad_token": .string(padding),
        ]
        for (key, value) in config where key.hasSuffix("_token") && value != .null { values[key] = value }
        if let token = AddedToken(values["eos_token"] ?? .null) { endOfSequence = token.content }
        if let token = AddedToken(values["pad_token"] ?? .null) { padding = token.content }
        return values.sorted { $0.key < $1.key }.compactMap { AddedToken($0.value, isSpecial: true) }
    }

    /// Tokens listed as extra, else the sentinels `<extra_id_n>` (and a SentencePiece model's control symbols).
    private func extras(_ config: [String: JSONField], _ vocabulary: VocabularyFile) -> [AddedToken] {
        switch config["extra_special_tokens"] {
        case .array(let list)?: return list.compactMap { AddedToken($0, isSpecial: true) }
        case .object(let fields)?:
            return fields.sorted { $0.key < $1.key }.compactMap { AddedToken($0.value, isSpecial: true) }
        case .null?: return []
        default: break
        }
        let sentinels = (0..<extraIDCount).map { AddedToken("<extra_id_\($0)>") }
        let listed: [AddedToken] =
            if vocabulary.isSentencePiece {
                vocabulary.addedTokens.map(\.token)
            } else if case .array(let list)? = config["additional_special_tokens"] {
                list.compactMap { AddedToken($0, isSpecial: true) }
            } else {
                []
            }
        return listed.contains { $0.content.contains("<extra_id_") } ? listed : listed + sentinels
    }
}

extension Optional<JSONField> {
    fileprivate var isEmptyOrNull: Bool {
        switch self {
        case nil, .null?: true
        case .array(let list)?: list.isEmpty
        case .object(let fields)?: fields.isEmpty
        default: false
        }
    }
}
