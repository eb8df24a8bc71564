import Failure
import FoundationEssentials

/// A JSON value of unknown shape in a tokenizer file.
enum JSONField: Sendable, Equatable, Decodable {
    case null
    case bool(Bool)
    case number(Double)
    case string(String)
    case array([JSONField])
    case object([String: JSONField])

    init(from decoder: any Decoder) throws {
        let container = try decoder.singleValueContainer()
        if container.decodeNil() {
            self = .null
        } else if let value = try? container.decode(String.self) {
            self = .string(value)
        } else if let value = try? container.decode(Bool.self) {
            self = .bool(value)
        } else if let value = try? container.decode(Double.self) {
            self = .number(value)
        } else if let value = try? container.decode([JSONField].self) {
            self = .array(value)
        } else {
            self = .object(try container.decode([String: JSONField].self))
        }
    }

    subscript(key: String) -> JSONField? {
        if case .object(let fields) = self { fields[key] } else { nil }
    }
}

/// The files of a tokenizer folder.
struct TokenizerFolder {
    let path: String

    /// The bytes of a file; nil when there is none.
    func bytes(_ name: String) throws(Failure) -> [UInt8]? {
        let file = path + "/" + name
        guard FileManager.default.fileExists(atPath: file) else { return nil }
        do {
            return try [UInt8](Data(contentsOf: URL(filePath: file)))
        } catch {
            throw Failure("tokenizer_invalid", "\(file) cannot be read.", field: file)
        }
    }

    /// A JSON file decoded; nil when there is none.
    func json<Value: Decodable>(_ name: String, as type: Value.Type) throws(Failure) -> Value? {
        guard let bytes = try bytes(name) else { return nil }
        do {
            return try JSONDecoder().decode(type, from: Data(bytes))
        } catch {
            let file = path + "/" + name
            throw Failure(
                "tokenizer_invalid", "\(file) is not the JSON that a tokenizer needs.", field: file,
                remedy: "Download the tokenizer folder again.")
        }
    }
}
