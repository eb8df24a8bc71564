import Foundation

/// One source file, as lines, with comments and string literals blanked where a rule is about code.
struct SourceFile {
    /// Relative to the package's root.
    let path: String
    let lines: [String]
    /// `lines` without comments and without the insides of string literals.
    let code: [String]

    init(path: String, text: String) {
        self.path = path
        lines = text.split(separator: "\n", omittingEmptySubsequences: false).map(String.init)
        code = SourceFile.codeOnly(text).split(separator: "\n", omittingEmptySubsequences: false).map(String.init)
    }

    /// Every file below `folders` with one of the extensions.
    static func all(in folders: [String], extensions: Set<String>) throws -> [SourceFile] {
        var files: [SourceFile] = []
        for folder in folders {
            let base = PackageManifest.root.appendingPathComponent(folder)
            guard let entries = FileManager.default.enumerator(at: base, includingPropertiesForKeys: nil) else {
                continue
            }
            for case let entry as URL in entries where extensions.contains(entry.pathExtension) {
                let path = String(entry.path.dropFirst(PackageManifest.root.path.count + 1))
                files.append(SourceFile(path: path, text: try String(contentsOf: entry, encoding: .utf8)))
            }
        }
        return files.sorted { $0.path < $1.path }
    }

    /// Replaces comments and literal text by spaces and keeps the line structure. Interpolated expressions are blanked
    /// with their literal, so a rule may miss something inside one, never report something that is not code.
    static func codeOnly(_ text: String) -> String {
        enum State { case code, lineComment, blockComment(Int), string(multiline: Bool, hashes: Int) }
        let input = Array(text.utf8)
        var output: [UInt8] = []
        output.reserveCapacity(input.count)
        var state = State.code
        var index = 0
        func matches(_ token: String, at position: Int) -> Bool {
            input[position...].starts(with: Array(token.utf8))
        }
        func skip(_ count: Int) {
            for byte in input[index..<min(index + count, input.count)] { output.append(byte == 10 ? 10 : 32) }
            index += count
        }
        while index < input.count {
            switch state {
            case .code:
                if matches("//", at: index) {
                    state = .lineComment
                } else if matches("/*", at: index) {
                    state = .blockComment(1)
                    skip(2)
                } else if input[index] == UInt8(ascii: "\"") || input[index] == UInt8(ascii: "#") {
                    let hashes = input[index...].prefix { $0 == UInt8(ascii: "#") }.count
                    if matches("\"\"\"", at: index + hashes) {
                        state = .string(multiline: true, hashes: hashes)
                        skip(hashes + 3)
                    } else if matches("\"", at: index + hashes) {
                        state = .string(multiline: false, hashes: hashes)
                        skip(hashes + 1)
                    } else {
                        output.append(input[index])
                        index += 1
                    }
                } else {
                    output.append(input[index])
                    index += 1
                }
            case .lineComment:
                if input[index] == 10 { state = .code }
                skip(1)
            case .blockComment(let depth):
                if matches("*/", at: index) {
                    state = depth == 1 ? .code : .blockComment(depth - 1)
                    skip(2)
                } else if matches("/*", at: index) {
                    state = .blockComment(depth + 1)
                    skip(2)
                } else {
                    skip(1)
                }
            case .string(let multiline, let hashes):
                let fence = (multiline ? "\"\"\"" : "\"") + String(repeating: "#", count: hashes)
                if hashes == 0, input[index] == UInt8(ascii: "\\") {
                    skip(2)
                } else if matches(fence, at: index) {
                    state = .code
                    skip(fence.utf8.count)
                } else {
                    if !multiline, input[index] == 10 { state = .code }
                    skip(1)
                }
            }
        }
        return String(decoding: output, as: UTF8.self)
    }
}
