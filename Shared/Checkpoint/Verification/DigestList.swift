package import Failure
import FoundationEssentials

/// SHA-256 digests of the files of a model folder, by their path below it.
package struct DigestList: Sendable {
    /// What a file should be.
    struct Expected: Sendable, Hashable {
        /// Lower-case hexadecimal SHA-256.
        var digest: String
        /// Bytes, where the list tells.
        var byteCount: Int?
    }

    /// Where the digests come from, for people.
    package let origin: String
    let files: [String: Expected]

    /// What `models convert` writes into its folder; `sha256sum -c` reads it too.
    static let fileName = "SHA256SUMS"
    /// Names looked for in a model folder.
    private static let usualNames = [fileName, "digests.json"]

    init(_ digests: [String: String]) {
        origin = Self.fileName
        files = digests.mapValues { Expected(digest: $0) }
    }

    /// The list in the format of sha256sum.
    var text: String { files.sorted { $0.key < $1.key }.map { "\($0.value.digest)  \($0.key)\n" }.joined() }

    /// The list that lies in a model folder; nil when there is none. Failure: `digests_invalid`.
    package static func inside(_ folder: String) throws(Failure) -> DigestList? {
        guard let name = usualNames.first(where: { FileIdentity(path: "\(folder)/\($0)") != nil }) else { return nil }
        return try DigestList(path: "\(folder)/\(name)")
    }

    /// Reads a list: sha256sum's lines; JSON of paths and digests, alone or under `files`; a single Git LFS pointer, for
    /// the file of its own name; or a folder of Git LFS pointers, such as a clone made without LFS, where other files
    /// count by their contents. Failure: `digests_invalid`.
    package init(path: String) throws(Failure) {
        origin = path
        if ModelFileSystem.isFolder(path) {
            files = try Self.pointers(below: path)
            return
        }
        guard let bytes = try? Data(contentsOf: URL(filePath: path)) else {
            throw Self.invalid(path, "it cannot be read")
        }
        if let pointer = Self.pointer(bytes) {
            files = [path.split(separator: "/").last.map(String.init) ?? path: pointer]
        } else if bytes.first(where: { ![0x20, 0x09, 0x0a, 0x0d].contains($0) }) == UInt8(ascii: "{") {
            files = try Self.json(bytes, path: path)
        } else {
            files = try Self.lines(bytes, path: path)
        }
        guard !files.isEmpty else { throw Self.invalid(path, "it lists nothing") }
        for name in files.keys where name.hasPrefix("/") || name.split(separator: "/").contains("..") {
            throw Self.invalid(path, "\(name) lies outside the folder")
        }
    }

    private static func lines(_ bytes: Data, path: String) throws(Failure) -> [String: Expected] {
        var files: [String: Expected] = [:]
        for (number, line) in String(decoding: bytes, as: UTF8.self).split(whereSeparator: \.isNewline).enumerated() {
            if line.hasPrefix("#") { continue }
            let parts = line.split(separator: " ", maxSplits: 1)
            guard parts.count == 2, let digest = digest(String(parts[0])) else {
                throw invalid(path, "line \(number + 1) is no digest and name")
            }
            // sha256sum marks binary mode with an asterisk.
            var name = parts[1].drop { $0 == " " || $0 == "*" }
            if name.hasPrefix("./") { name = name.dropFirst(2) }
            files[String(name)] = Expected(digest: digest)
        }
        return files
    }

    private static func json(_ bytes: Data, path: String) throws(Failure) -> [String: Expected] {
        guard case .object(let fields) = try? JSONDecoder().decode(JSONValue.self, from: bytes) else {
            throw invalid(path, "it is no JSON object")
        }
        var entries = fields
        if case .object(let inner) = fields["files"] { entries = inner }
        var files: [String: Expected] = [:]
        for (name, value) in entries {
            guard case .string(let text) = value, let digest = digest(text) else {
                throw invalid(path, "the value of \(name) is no SHA-256")
            }
            files[name] = Expected(digest: digest)
        }
        return files
    }

    private static func pointers(below folder: String) throws(Failure) -> [String: Expected] {
        var files: [String: Expected] = [:]
        for name in ModelFolder.files(below: folder) {
            let path = "\(folder)/\(name)"
            if let size = FileIdentity(path: path)?.byteCount, size < 1024,
                let bytes = try? Data(contentsOf: URL(filePath: path)), let pointer = pointer(bytes)
            {
                files[name] = pointer
            } else {
                files[name] = Expected(digest: try DigestCache.digest(of: path), byteCount: nil)
            }
        }
        guard !files.isEmpty else { throw invalid(folder, "it holds no file of a model") }
        return files
    }

    /// `version https://git-lfs…`, `oid sha256:HEX`, `size N` (git-lfs's docs/spec.md).
    private static func pointer(_ bytes: Data) -> Expected? {
        let text = String(decoding: bytes.prefix(1024), as: UTF8.self)
        guard text.hasPrefix("version https://git-lfs") else { return nil }
        var fields: [Substring: Substring] = [:]
        for line in text.split(whereSeparator: \.isNewline) {
            let parts = line.split(separator: " ", maxSplits: 1)
            if parts.count == 2 { fields[parts[0]] = parts[1] }
        }
        guard let oid = fields["oid"], let digest = digest(String(oid)) else { return nil }
        return Expected(digest: digest, byteCount: fields["size"].flatMap { Int($0) })
    }

    private static func digest(_ text: String) -> String? {
        let hexadecimal = (text.hasPrefix("sha256:") ? String(text.dropFirst(7)) : text).lowercased()
        guard hexadecimal.utf8.count == 64, hexadecimal.allSatisfy({ $0.isASCII && $0.isHexDigit }) else { return nil }
        return hexadecimal
    }

    private static func invalid(_ path: String, _ what: String) -> Failure {
        Failure(
            "digests_invalid", "\(path) is no list of SHA-256 digests: \(what).", field: path,
            remedy: "Give the output of sha256sum, JSON of paths and digests, or a folder of Git LFS pointers.")
    }
}
