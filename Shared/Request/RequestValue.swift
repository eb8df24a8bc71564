import Failure
import FoundationEssentials

/// A field's value as it arrived: typed by JSON, or text from a form or command line.
package enum RequestValue: Sendable, Hashable, Decodable {
    case null
    case bool(Bool)
    case integer(Int64)
    /// A whole number above `Int64.max`.
    case largeInteger(UInt64)
    case number(Double)
    case string(String)
    /// A form field or command-line value, whose type the field decides.
    case text(String)
    case list([RequestValue])
    case object([String: RequestValue])

    package init(from decoder: any Decoder) throws {
        let container = try decoder.singleValueContainer()
        if container.decodeNil() {
            self = .null
        } else if let value = try? container.decode(Bool.self) {
            self = .bool(value)
        } else if let value = try? container.decode(Int64.self) {
            self = .integer(value)
        } else if let value = try? container.decode(UInt64.self) {
            self = .largeInteger(value)
        } else if let value = try? container.decode(Double.self) {
            self = .number(value)
        } else if let value = try? container.decode(String.self) {
            self = .string(value)
        } else if let value = try? container.decode([RequestValue].self) {
            self = .list(value)
        } else {
            self = .object(try container.decode([String: RequestValue].self))
        }
    }

    /// How the value reads in an error message.
    var summary: String {
        switch self {
        case .null: return "null"
        case .bool(let value): return "\(value)"
        case .integer(let value): return "\(value)"
        case .largeInteger(let value): return "\(value)"
        case .number(let value): return "\(value)"
        case .string(let value), .text(let value):
            return value.count > 80 ? "\"\(value.prefix(80))…\"" : "\"\(value)\""
        case .list, .object: return "a list or an object"
        }
    }

    func wrongType(_ field: String, _ expected: String) -> Failure {
        Failure(
            "wrong_type", "\(field) is \(summary), but must be \(expected).", field: field,
            remedy: "Give \(expected), or leave the field out for its default.")
    }

    func string(_ field: String) throws(Failure) -> String {
        switch self {
        case .string(let value), .text(let value): return value
        default: throw wrongType(field, "text")
        }
    }

    func integer(_ field: String) throws(Failure) -> Int {
        switch self {
        case .integer(let value): return Int(value)
        case .number(let value) where value == value.rounded() && abs(value) < 1e15: return Int(value)
        case .text(let value):
            guard let number = Int(value) else { throw wrongType(field, "a whole number") }
            return number
        default: throw wrongType(field, "a whole number")
        }
    }

    func number(_ field: String) throws(Failure) -> Double {
        switch self {
        case .integer(let value): return Double(value)
        case .largeInteger(let value): return Double(value)
        case .number(let value) where value.isFinite: return value
        case .text(let value):
            guard let number = Double(value), number.isFinite else { throw wrongType(field, "a number") }
            return number
        default: throw wrongType(field, "a number")
        }
    }

    func bool(_ field: String) throws(Failure) -> Bool {
        switch self {
        case .bool(let value): return value
        case .text("true"), .text("1"): return true
        case .text("false"), .text("0"): return false
        default: throw wrongType(field, "true or false")
        }
    }

    /// A seed: 0 to 2⁶⁴ − 1, as torch's generator takes it.
    func seed(_ field: String) throws(Failure) -> UInt64 {
        let outOfRange = Failure(
            "seed_out_of_range", "\(field) is \(summary), but must be from 0 to 18446744073709551615.", field: field,
            remedy: "Leave it out for a random seed, which the answer names.")
        switch self {
        case .integer(let value):
            guard value >= 0 else { throw outOfRange }
            return UInt64(value)
        case .largeInteger(let value): return value
        case .number(let value) where value == value.rounded():
            // A double this large has lost the digits of the seed that was meant.
            guard (0...9_007_199_254_740_992).contains(value) else { throw outOfRange }
            return UInt64(value)
        case .text(let text):
            if let value = UInt64(text) { return value }
            guard text.allSatisfy({ $0.isASCII && ($0.isNumber || $0 == "-") }), !text.isEmpty else {
                throw wrongType(field, "a whole number")
            }
            throw outOfRange
        default: throw wrongType(field, "a whole number")
        }
    }

    /// `seconds` of the OpenAI interface, which is text there and a number elsewhere.
    func seconds(_ field: String) throws(Failure) -> Int {
        if case .string(let text) = self { return try RequestValue.text(text).integer(field) }
        return try integer(field)
    }
}
