package import Failure
import FoundationEssentials

/// JSON with sorted keys and no insignificant space: equal values have equal bytes, so the bytes can be hashed.
package enum CanonicalJSON {
    package static func encode(_ value: some Encodable) throws(Failure) -> String {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
        do {
            return String(decoding: try encoder.encode(value), as: UTF8.self)
        } catch {
            throw Failure("value_not_representable", "A \(type(of: value)) cannot be written as JSON: \(error).")
        }
    }

    /// Reads a value that the other side of the bus wrote; `parameters_invalid` when it is not one.
    package static func decode<Value: Decodable>(_ type: Value.Type, from text: String) throws(Failure) -> Value {
        do {
            return try JSONDecoder().decode(type, from: Data(text.utf8))
        } catch {
            throw Failure(
                "parameters_invalid", "The text is not a \(type) as JSON: \(error).", field: "parameters",
                remedy: "Client and stage must run the same version.")
        }
    }
}
