import Failure
import FoundationEssentials

/// A configuration file about to be written: fields in order.
struct ConfigDocument {
    private(set) var fields: [(name: String, value: JSONValue)]

    init(_ fields: [(String, JSONValue)]) { self.fields = fields.map { (name: $0.0, value: $0.1) } }

    /// Replaces a field; false when there is none of that name.
    mutating func set(_ name: String, _ value: JSONValue) -> Bool {
        guard let index = fields.firstIndex(where: { $0.name == name }) else { return false }
        fields[index].value = value
        return true
    }

    var text: String {
        "{\n" + fields.map { "  \(JSONValue.string($0.name).text): \($0.value.text)" }.joined(separator: ",\n")
            + "\n}\n"
    }
}

extension JSONValue {
    /// The document in JSON, on one line.
    var text: String {
        switch self {
        case .null: "null"
        case .bool(let value): value ? "true" : "false"
        case .integer(let value): String(value)
        case .number(let value): value.isFinite ? "\(value)" : "null"
        case .string(let value): Self.quoted(value)
        case .array(let values): "[" + values.map(\.text).joined(separator: ", ") + "]"
        case .object(let values):
            "{"
                + values.sorted { $0.key < $1.key }.map { "\(Self.quoted($0.key)): \($0.value.text)" }
                .joined(separator: ", ") + "}"
        }
    }

    private static func quoted(_ text: String) -> String {
        var result = "\""
        for scalar in text.unicodeScalars {
            switch scalar {
            case "\"": result += "\\\""
            case "\\": result += "\\\\"
            case _ where scalar.value < 0x20:
                let digits = String(scalar.value, radix: 16)
                result += "\\u" + String(repeating: "0", count: 4 - digits.count) + digits
            default: result.unicodeScalars.append(scalar)
            }
        }
        return result + "\""
    }
}
