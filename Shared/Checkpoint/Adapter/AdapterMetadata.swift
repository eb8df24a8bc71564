import Failure
import FoundationEssentials

/// What an adapter file says of its training: ranks and alphas, for all layers and for some.
struct AdapterMetadata: Sendable {
    private(set) var rank: Int?
    private(set) var alpha: Double?
    private var rankPattern: [String: Double] = [:]
    private var alphaPattern: [String: Double] = [:]
    /// Rank-stabilised: the scale is alpha / √rank.
    private(set) var isRankStabilized = false
    private(set) var usesDoRA = false

    /// What diffusers puts into the safetensors header since 0.34: JSON under `lora_adapter_metadata` with fields such
    /// as `transformer.lora_alpha`. Nil when the header has none. Failure: `adapter_metadata_invalid`.
    static func diffusers(_ metadata: [String: String], label: String) throws(Failure) -> AdapterMetadata? {
        guard let text = metadata["lora_adapter_metadata"] else { return nil }
        let all = try object(Data(text.utf8), label: label)
        var fields: [String: JSONValue] = [:]
        for (name, value) in all where name.hasPrefix("transformer.") { fields[String(name.dropFirst(12))] = value }
        return try AdapterMetadata(fields.isEmpty ? all : fields, label: label)
    }

    /// peft's `adapter_config.json`. Failure: `adapter_metadata_invalid`.
    static func peft(_ bytes: Data, label: String) throws(Failure) -> AdapterMetadata {
        let fields = try object(bytes, label: label)
        if let kind = fields["peft_type"], kind != .string("LORA") {
            throw Failure(
                "adapter_unsupported", "\(label): the adapter is \(kind.summary), not LoRA.", field: "peft_type",
                remedy: "Only LoRA adapters can be used.")
        }
        return try AdapterMetadata(fields, label: label)
    }

    private init(_ fields: [String: JSONValue], label: String) throws(Failure) {
        func number(_ name: String) throws(Failure) -> Double? {
            switch fields[name] {
            case nil, .null: return nil
            case .integer(let value): return Double(value)
            case .number(let value) where value.isFinite: return value
            case .some(let value): throw Self.invalid(label, "\(name) is \(value.summary)")
            }
        }
        func pattern(_ name: String) throws(Failure) -> [String: Double] {
            guard let value = fields[name], value != .null else { return [:] }
            guard case .object(let entries) = value else { throw Self.invalid(label, "\(name) is \(value.summary)") }
            var result: [String: Double] = [:]
            for (key, value) in entries {
                switch value {
                case .integer(let number): result[key] = Double(number)
                case .number(let number) where number.isFinite: result[key] = number
                default: throw Self.invalid(label, "\(name) of \(key) is \(value.summary)")
                }
            }
            return result
        }
        if let value = try number("r") {
            guard value >= 1, value <= 65_536, value == value.rounded() else {
                throw Self.invalid(label, "r is \(value)")
            }
            rank = Int(value)
        }
        alpha = try number("lora_alpha")
        rankPattern = try pattern("rank_pattern")
        alphaPattern = try pattern("alpha_pattern")
        isRankStabilized = fields["use_rslora"] == .bool(true)
        usesDoRA = fields["use_dora"] == .bool(true)
    }

    /// The rank that the file claims for a layer.
    func rank(of layer: String) -> Int? { Self.match(rankPattern, layer).flatMap { Int(exactly: $0) } ?? rank }

    /// The alpha that the file claims for a layer.
    func alpha(of layer: String) -> Double? { Self.match(alphaPattern, layer) ?? alpha }

    /// peft lets a key of a pattern be a whole name or its end behind a dot; the longest that fits counts here.
    private static func match(_ pattern: [String: Double], _ layer: String) -> Double? {
        pattern.filter { key, _ in
            let name = key.hasPrefix("^") ? String(key.dropFirst()) : key
            return layer == name || layer.hasSuffix(".\(name)")
        }
        .max { $0.key.count < $1.key.count }?.value
    }

    private static func object(_ bytes: Data, label: String) throws(Failure) -> [String: JSONValue] {
        guard case .object(let fields) = try? JSONDecoder().decode(JSONValue.self, from: bytes) else {
            throw invalid(label, "it is no JSON object")
        }
        return fields
    }

    private static func invalid(_ label: String, _ what: String) -> Failure {
        Failure(
            "adapter_metadata_invalid", "\(label): its adapter metadata cannot be used: \(what).", field: label,
            remedy: "Save the adapter again, or remove the metadata and give the scale yourself.")
    }
}
