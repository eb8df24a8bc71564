import Failure
import FoundationEssentials

/// One JSON configuration file of a checkpoint, read field by field with typed errors.
///
/// A field that is absent or `null` takes the default of the diffusers or transformers class, as `from_config` does.
/// A field of the wrong kind or outside its limits is `model_config_invalid`, with `file: field` as its field.
struct ConfigFile {
    /// `transformer/config.json` or the like, relative to the model folder.
    let name: String
    private let fields: [String: JSONValue]

    /// The largest extent that a configuration may name: far above every real model, far below overflow.
    static let extentLimit = 1 << 24

    init(folder: String, name: String) throws(Failure) {
        self.name = name
        let bytes: Data
        do {
            bytes = try Data(contentsOf: URL(filePath: folder + "/" + name))
        } catch {
            throw Failure(
                "model_config_invalid", "\(folder)/\(name) cannot be read.", field: name,
                remedy: "The folder must hold a whole diffusers checkpoint; download it again.")
        }
        do {
            guard case .object(let fields) = try JSONDecoder().decode(JSONValue.self, from: bytes) else {
                throw Failure("model_config_invalid", "\(folder)/\(name) is not a JSON object.", field: name)
            }
            self.fields = fields
        } catch let failure as Failure {
            throw failure
        } catch {
            throw Failure("model_config_invalid", "\(folder)/\(name) is not valid JSON.", field: name)
        }
    }

    /// The value of `field`, or nil when it is absent or null.
    subscript(field: String) -> JSONValue? {
        guard let value = fields[field], value != .null else { return nil }
        return value
    }

    func invalid(_ field: String, _ expectation: String) -> Failure {
        let value = self[field]?.summary ?? "absent"
        return Failure(
            "model_config_invalid", "\(name): \(field) is \(value), but must be \(expectation).",
            field: "\(name): \(field)")
    }

    func integer(_ field: String, default fallback: Int, in range: ClosedRange<Int>) throws(Failure) -> Int {
        try optionalInteger(field, in: range) ?? fallback
    }

    func optionalInteger(_ field: String, in range: ClosedRange<Int>) throws(Failure) -> Int? {
        let expectation = "an integer from \(range.lowerBound) to \(range.upperBound)"
        switch self[field] {
        case nil: return nil
        case .integer(let value) where range.contains(value): return value
        case .number(let value) where value == value.rounded() && abs(value) < 1e15 && range.contains(Int(value)):
            return Int(value)
        default: throw invalid(field, expectation)
        }
    }

    /// A size or count: at least one.
    func extent(_ field: String, default fallback: Int) throws(Failure) -> Int {
        try integer(field, default: fallback, in: 1...Self.extentLimit)
    }

    func number(_ field: String, default fallback: Double) throws(Failure) -> Double {
        switch self[field] {
        case nil: return fallback
        case .integer(let value): return Double(value)
        case .number(let value) where value.isFinite: return value
        default: throw invalid(field, "a finite number")
        }
    }

    func positiveNumber(_ field: String, default fallback: Double) throws(Failure) -> Double {
        let value = try number(field, default: fallback)
        guard value > 0 else { throw invalid(field, "greater than zero") }
        return value
    }

    func bool(_ field: String, default fallback: Bool) throws(Failure) -> Bool {
        switch self[field] {
        case nil: return fallback
        case .bool(let value): return value
        default: throw invalid(field, "true or false")
        }
    }

    func string(_ field: String, default fallback: String) throws(Failure) -> String {
        switch self[field] {
        case nil: return fallback
        case .string(let value): return value
        default: throw invalid(field, "a string")
        }
    }

    /// A string that must be one of `allowed`.
    func choice(_ field: String, default fallback: String, of allowed: [String]) throws(Failure) -> String {
        let value = try string(field, default: fallback)
        guard allowed.contains(value) else { throw invalid(field, "one of " + allowed.joined(separator: ", ")) }
        return value
    }

    func numbers(_ field: String) throws(Failure) -> [Double]? {
        guard let value = self[field] else { return nil }
        guard case .array(let values) = value else { throw invalid(field, "a list of numbers") }
        var result: [Double] = []
        for value in values {
            switch value {
            case .integer(let number): result.append(Double(number))
            case .number(let number) where number.isFinite: result.append(number)
            default: throw invalid(field, "a list of numbers")
            }
        }
        return result
    }

    func extents(_ field: String, default fallback: [Int]) throws(Failure) -> [Int] {
        guard let values = try numbers(field) else { return fallback }
        guard (1...16).contains(values.count),
            values.allSatisfy({ $0 >= 1 && $0 <= Double(Self.extentLimit) && $0 == $0.rounded() })
        else { throw invalid(field, "a list of 1 to 16 sizes") }
        return values.map { Int($0) }
    }

    /// A file may name its class; when it does, it must be one of `classes`.
    func requireClass(_ classes: [String]) throws(Failure) {
        guard self["_class_name"] != nil else { return }
        _ = try choice("_class_name", default: "", of: classes)
    }
}
