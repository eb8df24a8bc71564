import Checkpoint
import Failure
import FoundationEssentials
import Wire

/// One adapter of a request and how strongly it acts.
package struct AdapterUse: Sendable, Hashable, Codable {
    /// Where it lies in the folder of adapters: a file, with or without `.safetensors`, or a folder of peft.
    package var name: String
    /// What the scale that its file implies is multiplied by.
    package var weight: Double
    /// Hexadecimal SHA-256 of its contents, which the gateway fills in: a denoiser uses no other.
    package var digest: String

    package init(name: String, weight: Double = 1, digest: String = "") {
        self.name = name
        self.weight = weight
        self.digest = digest
    }
}

extension [AdapterUse] {
    /// Those that change anything, which are all but those of weight 0.
    package var effective: [AdapterUse] { filter { $0.weight != 0 } }

    /// Tells sets of adapters that make other weights apart: hexadecimal SHA-256 of contents and weights, whatever
    /// their names; empty when nothing is changed.
    package var identity: String {
        let parts = effective.map { "\($0.digest) \($0.weight)" }
        return parts.isEmpty ? "" : Digest.of([UInt8](parts.joined(separator: "\n").utf8)).description
    }
}

extension DenoiseParameters {
    /// What the transformer's weights are to be like: in which precision, and with which adapters.
    package var affinity: String {
        let identity = (loras ?? []).identity
        return identity.isEmpty ? dtype.rawValue : "\(dtype.rawValue)+\(identity)"
    }
}

/// A transformer that a denoiser has ready, as its beats name it.
package struct ReadyWeights: Sendable, Hashable {
    /// `float32`, `bfloat16`, `int8`.
    package var dtype: String
    /// `[AdapterUse].identity` of the adapters that are merged into it; empty without.
    package var adapters: String

    /// Reads `DenoiseParameters.affinity`.
    package init(affinity: String) {
        let parts = affinity.split(separator: "+", maxSplits: 1)
        dtype = parts.first.map(String.init) ?? ""
        adapters = parts.count > 1 ? String(parts[1]) : ""
    }
}

extension RequestValue {
    /// Adapters as a list of `{"name" or "path", "weight"}`; a form and the command line give it as JSON text.
    func adapters(_ field: String) throws(Failure) -> [AdapterUse] {
        let expected = "a list such as [{\"name\": \"style\", \"weight\": 0.8}]"
        if case .text(let text) = self {
            guard let value = try? JSONDecoder().decode(RequestValue.self, from: Data(text.utf8)) else {
                throw wrongType(field, expected)
            }
            return try value.adapters(field)
        }
        guard case .list(let items) = self else { throw wrongType(field, expected) }
        var adapters: [AdapterUse] = []
        for (index, item) in items.enumerated() {
            guard case .object(let fields) = item else { throw wrongType(field, expected) }
            adapters.append(try Self.adapter(fields, "\(field)[\(index)]"))
        }
        return adapters
    }

    private static func adapter(_ fields: [String: RequestValue], _ field: String) throws(Failure) -> AdapterUse {
        var use = AdapterUse(name: "")
        var named: String?
        for (key, value) in fields.sorted(by: { $0.key < $1.key }) {
            switch key {
            case "name", "path":
                if let named {
                    throw Failure(
                        "fields_conflict", "\(field) has both \(named) and \(key).", field: "\(field).\(key)",
                        remedy: "Give one of them.")
                }
                use.name = try value.string("\(field).\(key)")
                named = key
            case "weight": use.weight = value == .null ? 1 : try value.number("\(field).weight")
            default:
                throw Failure(
                    "unknown_field", "There is no field \"\(key.prefix(80))\" in an adapter.",
                    field: "\(field).\(key.prefix(80))", remedy: "An adapter has a name, or a path, and a weight.")
            }
        }
        guard named != nil else {
            throw Failure(
                "adapter_name_invalid", "\(field) has no name.", field: field,
                remedy: "Name a file of the server's folder of adapters.")
        }
        return use
    }
}

extension RequestDraft {
    /// The adapters, with names that stay inside the folder; their digests are filled in where the folder is.
    func checkedAdapters() throws(Failure) -> [AdapterUse]? {
        guard let loras, !loras.isEmpty else { return nil }
        guard loras.count <= RequestLimits.adapters else {
            throw Failure(
                "adapters_too_many", "loras has \(loras.count) entries.", field: "loras",
                remedy: "Use at most \(RequestLimits.adapters); merge some of them into one file.")
        }
        var seen: Set<String> = []
        for (index, use) in loras.enumerated() {
            let field = "loras[\(index)]"
            if let problem = AdapterLibrary.problem(ofName: use.name) {
                throw Failure(
                    "adapter_name_invalid", "\(field) is \"\(use.name.prefix(80))\", which \(problem).", field: field,
                    remedy: "Name a file by its path inside the server's folder of adapters.")
            }
            guard seen.insert(use.name).inserted else {
                throw Failure(
                    "adapter_repeated", "loras names \(use.name) twice.", field: field,
                    remedy: "Name it once, with the sum of the weights.")
            }
            guard RequestLimits.adapterWeight.contains(use.weight) else {
                throw Failure(
                    "adapter_weight_out_of_range", "the weight of \(use.name) is \(use.weight).",
                    field: "\(field).weight",
                    remedy:
                        "Use \(RequestLimits.adapterWeight.lowerBound) to \(RequestLimits.adapterWeight.upperBound).")
            }
        }
        return loras
    }
}
