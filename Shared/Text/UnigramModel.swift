import Failure

/// One entry of a unigram vocabulary: its UTF-8 bytes and log-probability. Its id is its index.
struct Piece: Sendable {
    var bytes: [UInt8]
    var score: Double

    init(_ text: String, score: Double) {
        bytes = Array(text.utf8)
        self.score = score
    }
}

/// SentencePiece's unigram language model: the segmentation of largest total log-probability, found by Viterbi.
///
/// Works on bytes throughout: Swift compares strings by canonical equivalence, which would merge distinct pieces.
struct UnigramModel: Sendable {
    /// T5 puts `<unk>` third, and transformers relies on it.
    static let unknownID = 2
    /// What an unknown character costs below the least likely piece (`kUnkPenalty`).
    private static let unknownPenalty = 10.0

    let pieces: [Piece]
    private let trie: ByteTrie
    private let unknownScore: Double

    init(pieces: [Piece], file: String) throws(Failure) {
        guard pieces.allSatisfy({ $0.score.isFinite }) else {
            throw Failure("tokenizer_invalid", "\(file) holds a score that is not finite.", field: file)
        }
        self.pieces = pieces
        unknownScore = pieces.reduce(.infinity) { min($0, $1.score) } - Self.unknownPenalty
        var trie = ByteTrie()
        for (id, piece) in pieces.enumerated() where !piece.bytes.isEmpty { trie.insert(piece.bytes, value: Int32(id)) }
        self.trie = trie
    }

    /// The id of exactly these bytes.
    func id(of bytes: [UInt8]) -> Int? { trie.value(of: bytes).map(Int.init) }

    /// The ids of the best segmentation of `text`, which is valid UTF-8; adjacent unknown characters are one `<unk>`.
    func encode(_ text: ArraySlice<UInt8>) -> [Int32] {
        struct Best {
            var score = 0.0
            var start = -1
            var id: Int32 = 0
        }
        let text = Array(text)
        var ending = [Best](repeating: Best(), count: text.count + 1)
        func offer(_ id: Int32, _ score: Double, from start: Int, to end: Int) {
            if ending[end].start < 0 || score > ending[end].score {
                ending[end] = Best(score: score, start: start, id: id)
            }
        }
        var start = 0
        while start < text.count {
            let soFar = ending[start].score
            let characterEnd = min(start + utf8Length(text[start]), text.count)
            var hasCharacter = false
            trie.forEachPrefix(of: text[start...]) { end, id in
                offer(id, pieces[Int(id)].score + soFar, from: start, to: end)
                hasCharacter = hasCharacter || end == characterEnd
            }
            if !hasCharacter {
                offer(Int32(Self.unknownID), unknownScore + soFar, from: start, to: characterEnd)
            }
            start = characterEnd
        }
        var ids: [Int32] = []
        var end = text.count
        while end > 0 {
            let id = ending[end].id
            if !(id == Int32(Self.unknownID) && ids.last == id) { ids.append(id) }
            end = ending[end].start
        }
        return ids.reversed()
    }
}

/// Bytes of the UTF-8 character that begins with `lead`.
func utf8Length(_ lead: UInt8) -> Int {
    switch lead {
    case 0xf0...: 4
    case 0xe0...: 3
    case 0xc0...: 2
    default: 1
    }
}

/// A prefix tree over bytes with one value a key; a later key replaces an equal earlier one.
struct ByteTrie: Sendable {
    private var children: [UInt64: Int32] = [:]
    private var values: [Int32] = [-1]

    mutating func insert(_ key: [UInt8], value: Int32) {
        var node: Int32 = 0
        for byte in key {
            let edge = Self.edge(node, byte)
            if let next = children[edge] {
                node = next
            } else {
                let next = Int32(values.count)
                children[edge] = next
                values.append(-1)
                node = next
            }
        }
        values[Int(node)] = value
    }

    func value(of key: [UInt8]) -> Int32? {
        var found: Int32?
        forEachPrefix(of: key[...]) { end, value in if end == key.count { found = value } }
        return found
    }

    /// Calls `body` with the end index and value of every key that begins `text`, shortest first.
    func forEachPrefix(of text: ArraySlice<UInt8>, _ body: (Int, Int32) -> Void) {
        var node: Int32 = 0
        for index in text.indices {
            guard let next = children[Self.edge(node, text[index])] else { return }
            node = next
            if values[Int(node)] >= 0 { body(index + 1, values[Int(node)]) }
        }
    }

    private static func edge(_ node: Int32, _ byte: UInt8) -> UInt64 {
        UInt64(UInt32(bitPattern: node)) << 8 | UInt64(byte)
    }
}
