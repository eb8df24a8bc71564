import Failure
import FoundationEssentials

/// A vocabulary with its normaliser, as read from `tokenizer.json` or `spiece.model`.
struct VocabularyFile {
    var file: String
    var pieces: [Piece]
    var charsmap: [UInt8]?
    /// `added_tokens` of tokenizer.json in file order; the control and user-defined pieces of spiece.model.
    var addedTokens: [(id: Int, token: AddedToken)]
    var isSentencePiece: Bool
}

// MARK: tokenizer.json

extension VocabularyFile {
    private struct Document: Decodable {
        struct Model: Decodable {
            var type: String?
            var vocab: [Entry]
        }
        struct Entry: Decodable {
            var piece: Piece

            init(from decoder: any Decoder) throws {
                var container = try decoder.unkeyedContainer()
                piece = Piece(try container.decode(String.self), score: try container.decode(Double.self))
            }
        }
        var model: Model
        var normalizer: JSONField?
        var added_tokens: [JSONField]?
    }

    /// Reads what transformers' `T5Tokenizer` takes from tokenizer.json: pieces, character map and added tokens. It
    /// builds the rest of the pipeline anew whatever the file says.
    init?(tokenizerJSON folder: TokenizerFolder) throws(Failure) {
        guard let document = try folder.json("tokenizer.json", as: Document.self) else { return nil }
        file = folder.path + "/tokenizer.json"
        isSentencePiece = false
        guard document.model.type ?? "Unigram" == "Unigram" else {
            throw Failure(
                "tokenizer_invalid", "\(file) holds a \(document.model.type ?? "") model; T5 has a Unigram model.",
                field: file)
        }
        pieces = document.model.vocab.map(\.piece)
        charsmap = nil
        if let encoded = Self.charsmap(in: document.normalizer) {
            guard let data = Data(base64Encoded: encoded) else {
                throw Failure("tokenizer_invalid", "The normalisation map in \(file) is not base64.", field: file)
            }
            charsmap = [UInt8](data)
        }
        addedTokens = []
        for json in document.added_tokens ?? [] {
            guard let token = AddedToken(json), case .number(let id)? = json["id"], let id = Int(exactly: id) else {
                throw Failure("tokenizer_invalid", "\(file) holds an added token without content or id.", field: file)
            }
            addedTokens.append((id, token))
        }
    }

    /// The first Precompiled normaliser, alone or in a sequence.
    private static func charsmap(in normalizer: JSONField?) -> String? {
        guard let normalizer else { return nil }
        let candidates = if case .array(let list)? = normalizer["normalizers"] { list } else { [normalizer] }
        for candidate in candidates where candidate["type"] == .string("Precompiled") {
            if case .string(let encoded)? = candidate["precompiled_charsmap"] { return encoded }
        }
        return nil
    }
}

// MARK: spiece.model

extension VocabularyFile {
    /// Reads a SentencePiece `ModelProto`: pieces (1: piece, score, type), the trainer's model type (2.3) and the
    /// normaliser's character map (3.2).
    init?(sentencePiece folder: TokenizerFolder) throws(Failure) {
        guard let bytes = try folder.bytes("spiece.model") else { return nil }
        file = folder.path + "/spiece.model"
        isSentencePiece = true
        pieces = []
        charsmap = nil
        addedTokens = []
        var message = ProtobufReader(bytes[...], file: file)
        while let field = try message.next() {
            switch field {
            case (1, .bytes(let piece)): try appendPiece(piece)
            case (2, .bytes(let trainer)):
                var trainer = ProtobufReader(trainer, file: file)
                while let field = try trainer.next() {
                    if case (3, .varint(let type)) = field, type != 1 {
                        throw Failure("tokenizer_invalid", "\(file) is not a unigram model.", field: file)
                    }
                }
            case (3, .bytes(let normalizer)):
                var normalizer = ProtobufReader(normalizer, file: file)
                while let field = try normalizer.next() {
                    if case (2, .bytes(let map)) = field, !map.isEmpty { charsmap = Array(map) }
                }
            default: break
            }
        }
    }

    private mutating func appendPiece(_ bytes: ArraySlice<UInt8>) throws(Failure) {
        var message = ProtobufReader(bytes, file: file)
        var text = ""
        var score: Float = 0
        var type: UInt64 = 1
        while let field = try message.next() {
            switch field {
            case (1, .bytes(let utf8)):
                guard let valid = String(validating: utf8, as: UTF8.self) else {
                    throw Failure("tokenizer_invalid", "Piece \(pieces.count) of \(file) is not UTF-8.", field: file)
                }
                text = valid
            case (2, .fixed32(let bits)): score = Float(bitPattern: bits)
            case (3, .varint(let value)): type = value
            default: break
            }
        }
        // Control (3) and user-defined (4) symbols are cut out of the text.
        if type == 3 || type == 4 { addedTokens.append((pieces.count, AddedToken(text))) }
        pieces.append(Piece(text, score: Double(score)))
    }
}

/// The fields of a protobuf message, one after the other.
struct ProtobufReader {
    enum Value {
        case varint(UInt64)
        case fixed32(UInt32)
        case bytes(ArraySlice<UInt8>)
        case fixed64
    }
    private var rest: ArraySlice<UInt8>
    private let file: String

    init(_ bytes: ArraySlice<UInt8>, file: String) {
        rest = bytes
        self.file = file
    }

    /// The next field, nil at the end of the message.
    mutating func next() throws(Failure) -> (field: UInt64, value: Value)? {
        guard !rest.isEmpty else { return nil }
        let key = try varint()
        switch key & 7 {
        case 0: return (key >> 3, .varint(try varint()))
        case 1:
            _ = try take(8)
            return (key >> 3, .fixed64)
        case 2: return (key >> 3, .bytes(try take(try varint())))
        case 5: return (key >> 3, .fixed32(try take(4).reversed().reduce(0) { $0 << 8 | UInt32($1) }))
        default: throw damaged()
        }
    }

    private mutating func varint() throws(Failure) -> UInt64 {
        var value: UInt64 = 0
        for shift in stride(from: UInt64(0), to: 64, by: 7) {
            guard let byte = rest.popFirst() else { throw damaged() }
            value |= UInt64(byte & 0x7f) << shift
            if byte < 0x80 { return value }
        }
        throw damaged()
    }

    private mutating func take(_ count: UInt64) throws(Failure) -> ArraySlice<UInt8> {
        guard count <= UInt64(rest.count) else { throw damaged() }
        defer { rest = rest.dropFirst(Int(count)) }
        return rest.prefix(Int(count))
    }

    private func damaged() -> Failure {
        Failure(
            "tokenizer_invalid", "\(file) is damaged or not a SentencePiece model.", field: file,
            remedy: "Download the tokenizer folder again.")
    }
}
