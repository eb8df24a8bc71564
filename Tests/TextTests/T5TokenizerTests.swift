import Failure
import Foundation
import Testing
import Text

/// What `Fixtures/make_fixtures.py` got from transformers 5.
struct GoldenTokenizer: Decodable {
    struct Cut: Decodable {
        var limit: Int
        var ids: [Int32]
        var removed: String
    }
    struct Row: Decodable {
        var text: String
        var ids: [Int32]
        var decoded: String
        var cuts: [Cut]?
    }
    var padding: Int32
    var count: Int
    var rows: [Row]

    static let fixtures = URL(filePath: #filePath).deletingLastPathComponent().appending(path: "Fixtures")
    static let demo = fixtures.appending(path: "../../../Shared/DemoModel/cogvideox-demo/tokenizer").standardized

    static func load(_ name: String) throws -> GoldenTokenizer {
        let bytes = try Data(contentsOf: fixtures.appending(path: "golden.json"))
        return try #require(JSONDecoder().decode([String: GoldenTokenizer].self, from: bytes)[name])
    }
}

/// A temporary folder holding copies of some files of another, removed at the end of `body`.
func withCopies<Result>(of files: [String], from folder: URL, _ body: (URL) throws -> Result) throws -> Result {
    let copy = FileManager.default.temporaryDirectory.appending(path: "tokenizer-\(UUID().uuidString)")
    try FileManager.default.createDirectory(at: copy, withIntermediateDirectories: true)
    defer { try? FileManager.default.removeItem(at: copy) }
    for file in files {
        try FileManager.default.copyItem(at: folder.appending(path: file), to: copy.appending(path: file))
    }
    return try body(copy)
}

/// Scalars, because Swift's == takes canonically equivalent strings for equal.
func sameScalars(_ first: String, _ second: String) -> Bool {
    first.unicodeScalars.elementsEqual(second.unicodeScalars)
}

@Suite("The T5 tokenizer")
struct T5TokenizerTests {
    static func tokenizer(_ name: String) throws -> T5Tokenizer {
        switch name {
        case "demo": try T5Tokenizer(folder: GoldenTokenizer.demo.path())
        case "demo-spiece":
            try withCopies(of: ["spiece.model", "tokenizer_config.json"], from: GoldenTokenizer.demo) {
                try T5Tokenizer(folder: $0.path())
            }
        default: try T5Tokenizer(folder: GoldenTokenizer.fixtures.appending(path: name).path())
        }
    }

    @Test(
        "gives the ids, the truncation and the decoded text that transformers gives",
        arguments: ["released", "saved", "plain", "demo", "demo-spiece"])
    func matchesTransformers(name: String) throws {
        let golden = try GoldenTokenizer.load(name)
        let tokenizer = try Self.tokenizer(name)
        #expect(tokenizer.paddingID == golden.padding)
        #expect(tokenizer.vocabularyCount == golden.count)
        for row in golden.rows {
            let whole = tokenizer.encode(row.text, maximumLength: 1000)
            #expect(
                whole.ids == row.ids + [Int32](repeating: golden.padding, count: 1000 - row.ids.count),
                "\(row.text.debugDescription)")
            #expect(whole.tokenCount == row.ids.count && !whole.truncated)
            #expect(sameScalars(tokenizer.decode(row.ids), row.decoded), "\(row.text.debugDescription)")
            for cut in row.cuts ?? [] {
                let text = tokenizer.encode(row.text, maximumLength: cut.limit)
                #expect(text.ids == cut.ids && text.truncated && text.tokenCount == row.ids.count)
                #expect(sameScalars(text.truncatedText ?? "", cut.removed), "\(row.text.debugDescription)")
            }
        }
    }

    @Test("an empty text is </s> and padding")
    func emptyText() throws {
        let text = try Self.tokenizer("demo").encode("", maximumLength: 4)
        #expect(text.ids == [1, 0, 0, 0])
        #expect(text.tokenCount == 1 && text.truncatedText == nil)
    }

    @Test("a text of exactly the limit is not cut, one token more is")
    func limit() throws {
        let tokenizer = try Self.tokenizer("released")
        let text = "the sun rises over green hills"
        let count = tokenizer.encode(text, maximumLength: 100).tokenCount
        #expect(!tokenizer.encode(text, maximumLength: count).truncated)
        let cut = tokenizer.encode(text, maximumLength: count - 1)
        #expect(cut.truncated && cut.ids.count == count - 1 && cut.ids.last == tokenizer.endOfSequenceID)
        #expect(cut.truncatedText?.isEmpty == false)
    }

    @Test("a text of a hundred thousand characters is tokenised")
    func longText() throws {
        let text = try Self.tokenizer("demo").encode(
            String(repeating: "waves on the shore ", count: 5_300), maximumLength: 32)
        #expect(text.ids.count == 32 && text.tokenCount > 20_000)
    }
}

@Suite("Tokenizer folders that are wrong")
struct TokenizerErrorTests {
    /// The failure code of opening `folder`.
    static func code(_ folder: URL) -> String? {
        do {
            _ = try T5Tokenizer(folder: folder.path())
            return nil
        } catch { return error.code }
    }

    @Test("a folder without a vocabulary is not found")
    func missing() throws {
        #expect(Self.code(URL(filePath: "/nonexistent")) == "tokenizer_not_found")
        try withCopies(of: ["tokenizer_config.json"], from: GoldenTokenizer.demo) {
            #expect(Self.code($0) == "tokenizer_not_found")
        }
    }

    @Test("a cut or scribbled spiece.model is refused, never a crash")
    func damagedSentencePiece() throws {
        try withCopies(of: ["spiece.model"], from: GoldenTokenizer.fixtures.appending(path: "released")) { folder in
            let file = folder.appending(path: "spiece.model")
            let whole = try Data(contentsOf: file)
            for count in [0, 1, 10, 1000, whole.count / 2, whole.count - 1] {
                try whole.prefix(count).write(to: file)
                #expect(Self.code(folder) == "tokenizer_invalid", "\(count) bytes")
            }
            // A scribble may leave a readable file, whose tokenizer must then run.
            var random = SystemRandomNumberGenerator()
            for _ in 0..<20 {
                var scribbled = whole
                for _ in 0..<30 { scribbled[Int.random(in: 0..<whole.count, using: &random)] = .random(in: 0...255) }
                try scribbled.write(to: file)
                if let tokenizer = try? T5Tokenizer(folder: folder.path()) {
                    #expect(tokenizer.encode("ﬁne Ａ① 日本 e\u{301}", maximumLength: 16).ids.count == 16)
                }
            }
        }
    }

    @Test(
        "a tokenizer.json of the wrong form is refused",
        arguments: [
            "", "{", "[]", #"{"model":{}}"#, #"{"model":{"type":"BPE","vocab":[]}}"#,
            #"{"model":{"type":"Unigram","vocab":[]}}"#,
            #"{"model":{"vocab":[["<pad>",0],["</s>",0],["<unk>",0],["a"]]}}"#,
            #"{"model":{"vocab":[["<pad>",0],["</s>",0],["<unk>",0]]},"#
                + #""normalizer":{"type":"Precompiled","precompiled_charsmap":"!"}}"#,
            #"{"model":{"vocab":[["<pad>",0],["</s>",0],["<unk>",0]]},"#
                + #""normalizer":{"type":"Precompiled","precompiled_charsmap":"/////w=="}}"#,
            #"{"model":{"vocab":[["<pad>",0],["</s>",0],["<unk>",0]]},"added_tokens":[{"id":3}]}"#,
        ])
    func damagedJSON(json: String) throws {
        try withCopies(of: [], from: GoldenTokenizer.demo) { folder in
            try Data(json.utf8).write(to: folder.appending(path: "tokenizer.json"))
            #expect(Self.code(folder) == "tokenizer_invalid")
        }
    }

    @Test("the failure names the file")
    func namesFile() throws {
        try withCopies(of: [], from: GoldenTokenizer.demo) { folder in
            try Data("{".utf8).write(to: folder.appending(path: "tokenizer.json"))
            #expect {
                try T5Tokenizer(folder: folder.path())
            } throws: { ($0 as? Failure)?.message.contains("tokenizer.json") == true }
        }
    }
}
