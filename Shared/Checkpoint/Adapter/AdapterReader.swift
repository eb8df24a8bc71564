import Crypto
package import Failure
import FoundationEssentials
import Tensor

extension AdapterWeights {
    /// Reads an adapter file: safetensors of diffusers, peft or kohya's scripts, or SAT names in safetensors or in a
    /// file of `torch.save`. A folder means the usual file in it.
    ///
    /// Failures: `adapter_not_found`, `adapter_key_unknown`, `adapter_prefix_missing`, `adapter_unsupported`,
    /// `adapter_invalid`, `adapter_metadata_invalid`, `corrupt_safetensors`, `unreadable_file` and those of `TorchFile`.
    ///
    /// - Parameter label: what messages call it; nil for the file's path.
    package init(path: String, label: String? = nil) throws(Failure) {
        let file = try AdapterFile(path: path, label: label)
        var reader = AdapterReader(file: file)
        try reader.sortKeys()
        self = try reader.weights()
    }

    /// Hex SHA-256 of the adapter's file, for manifests and caches; with peft's `adapter_config.json`, which says the
    /// scale, that of both digests. Failures: `unreadable_file` and `model_config_invalid`.
    package func digest() throws(Failure) -> String {
        var digests: [String] = []
        for file in files { digests.append(try DigestCache.digest(of: file)) }
        guard digests.count > 1 else { return digests.first ?? "" }
        return SHA256.hash(data: Data(digests.joined(separator: "\n").utf8)).hexadecimal
    }

    /// Fails with `adapter_not_finite` where a matrix or bias holds NaN or infinity.
    package func checkFinite() throws(Failure) {
        for layer in layers {
            guard let delta = delta(for: layer) else { continue }
            for (part, tensor) in [("A", delta.down), ("B", delta.up), ("bias", delta.bias)] {
                guard let index = tensor?.firstNonFinite() else { continue }
                throw Failure(
                    "adapter_not_finite", "\(label): value \(index) of \(layer)'s \(part) is NaN or infinite.",
                    field: layer, remedy: "The training diverged or the file is damaged; use another checkpoint of it.")
            }
        }
    }
}

/// The tensors of an adapter file, whichever its container, and what it says of itself.
struct AdapterFile {
    /// Names of the weights in a folder.
    static let usualNames = ["pytorch_lora_weights.safetensors", "adapter_model.safetensors"]

    let path: String
    let label: String
    /// peft's configuration, where the scale comes from it.
    let configPath: String?
    let names: [String]
    let metadata: AdapterMetadata?
    private let safetensors: SafetensorsFile?
    private let torch: TorchFile?

    init(path: String, label: String?) throws(Failure) {
        self.path = try Self.file(path)
        self.label = label ?? self.path
        let storage = try MappedFile.storage(path: self.path)
        let bytes = Tensor(storage: storage, shape: [storage.byteCount], dtype: .uint8)
        if self.path.hasSuffix(".safetensors") {
            let file = try SafetensorsFile(bytes: bytes, label: self.label)
            safetensors = file
            torch = nil
            names = file.names.sorted()
            (metadata, configPath) = try Self.metadata(file, path: self.path, label: self.label)
        } else {
            let file = try TorchFile(bytes: bytes, label: self.label)
            safetensors = nil
            torch = file
            names = file.names
            metadata = nil
            configPath = nil
        }
    }

    func tensor(_ name: String) throws(Failure) -> Tensor {
        if let safetensors { return try safetensors.tensor(name) }
        if let torch { return try torch.tensor(name) }
        throw Failure("missing_tensor", "\(path) has no tensor \(name).", field: name)
    }

    /// The file of weights that a path means: itself, or the usual one in a folder. Failure: `adapter_not_found`.
    static func file(_ path: String) throws(Failure) -> String {
        guard ModelFileSystem.isFolder(path) else {
            if FileIdentity(path: path) != nil { return path }
            throw notFound(path, "there is no file \(path)")
        }
        if let name = usualNames.first(where: { FileIdentity(path: "\(path)/\($0)") != nil }) {
            return "\(path)/\(name)"
        }
        let files = ModelFileSystem.files(in: path).filter { $0.hasSuffix(".safetensors") }
        guard files.count == 1 else {
            throw notFound(path, "\(path) holds \(files.count) safetensors files, and none of the usual name")
        }
        return "\(path)/\(files[0])"
    }

    /// Where peft's configuration of a file lies, if it is one of peft's.
    static func configPath(of path: String) -> String? {
        guard path.hasSuffix("adapter_model.safetensors") else { return nil }
        return (path.lastIndex(of: "/").map { String(path[..<$0]) } ?? ".") + "/adapter_config.json"
    }

    private static func metadata(
        _ file: SafetensorsFile, path: String, label: String
    ) throws(Failure) -> (AdapterMetadata?, configPath: String?) {
        if let metadata = try AdapterMetadata.diffusers(file.metadata, label: label) { return (metadata, nil) }
        guard let config = configPath(of: path), let bytes = try? Data(contentsOf: URL(filePath: config)) else {
            return (nil, nil)
        }
        return (try AdapterMetadata.peft(bytes, label: "\(label): adapter_config.json"), config)
    }

    private static func notFound(_ path: String, _ what: String) -> Failure {
        Failure(
            "adapter_not_found", "\(what).", field: path,
            remedy: "Name the .safetensors file of the adapter, or the folder with pytorch_lora_weights.safetensors.")
    }
}

/// Puts the keys of a file into places, then builds the layers.
private struct AdapterReader {
    let file: AdapterFile
    private var places: [String: [AdapterKey.Role: String]] = [:]
    private var formats: Set<AdapterFormat> = []
    private var magnitudes = 0

    init(file: AdapterFile) { self.file = file }

    /// Refuses what has no place, by name, before any tensor is touched.
    mutating func sortKeys() throws(Failure) {
        var unknown: [String] = []
        for name in file.names {
            do throws(AdapterKey.Misfit) {
                let key = try AdapterKey(name)
                formats.insert(key.format)
                if key.role == .magnitude {
                    magnitudes += 1
                } else if places[key.layer, default: [:]].updateValue(name, forKey: key.role) != nil {
                    throw AdapterKey.Misfit.layer(key.layer)
                }
            } catch {
                switch error {
                case .base: continue
                case .prefix: throw prefixMissing(name)
                case .unsupported(let kind): throw unsupported(name, kind)
                case .unknown, .layer: unknown.append(name)
                }
            }
        }
        guard unknown.isEmpty else { throw keysUnknown(unknown) }
        guard !places.isEmpty else {
            throw Failure(
                "adapter_invalid", "\(file.label) holds no LoRA weights.", field: file.label,
                remedy: "Name the adapter's file, not the base model's.")
        }
    }

    func weights() throws(Failure) -> AdapterWeights {
        guard let format = formats.first, formats.count == 1 else {
            let names = formats.map(\.rawValue).sorted().joined(separator: ", ")
            throw invalid("it mixes the names of \(names)", field: file.label)
        }
        var deltas: [String: AdapterWeights.Delta] = [:]
        for (layer, keys) in places { deltas[layer] = try delta(layer, keys, format: format) }
        return AdapterWeights(
            label: file.label, files: [file.path] + [file.configPath].compactMap(\.self), format: format,
            deltas: deltas,
            warnings: warnings(deltas, format: format))
    }

    // MARK: One layer

    private func delta(
        _ layer: String, _ keys: [AdapterKey.Role: String], format: AdapterFormat
    ) throws(Failure) -> AdapterWeights.Delta {
        guard let downKey = keys[.down], let upKey = keys[.up] else {
            let missing = keys[.down] == nil ? "down (A)" : "up (B)"
            throw invalid("\(layer) has no \(missing) matrix", field: layer)
        }
        let down = try matrix(downKey), up = try matrix(upKey)
        let rank = down.shape[0]
        guard rank > 0, up.shape[1] == rank else {
            throw invalid("\(layer) has the ranks \(rank) and \(up.shape[1]) in its two matrices", field: upKey)
        }
        if let claimed = file.metadata?.rank(of: layer), claimed != rank {
            throw Failure(
                "adapter_metadata_invalid",
                "\(file.label): \(layer) has rank \(rank), but the metadata says \(claimed).", field: layer,
                remedy: "Metadata and weights must come from the same training.")
        }
        var bias: Tensor?
        if let key = keys[.bias] {
            let found = try file.tensor(key)
            guard found.dtype.isFloatingPoint, found.shape == [up.shape[0]] else {
                throw invalid("\(key) is \(found.shape), not [\(up.shape[0])]", field: key)
            }
            bias = found
        }
        let alpha = try alpha(layer, key: keys[.alpha], format: format)
        let isRankStabilized = file.metadata?.isRankStabilized == true
        let divisor = isRankStabilized ? Double(rank).squareRoot() : Double(rank)
        return AdapterWeights.Delta(
            down: down, up: up, bias: bias, scale: alpha.map { $0 / divisor } ?? 1, alpha: alpha)
    }

    /// From the layer's own tensor, from the metadata, or, as SAT has it unless told otherwise, 1.
    private func alpha(_ layer: String, key: String?, format: AdapterFormat) throws(Failure) -> Double? {
        guard let key else { return file.metadata?.alpha(of: layer) ?? (format == .sat ? 1 : nil) }
        let value = try file.tensor(key)
        guard value.count == 1, let alpha = value.floats().first, alpha.isFinite else {
            throw invalid("\(key) is no finite number", field: key)
        }
        return Double(alpha)
    }

    /// A matrix, or a convolution's weight as one.
    private func matrix(_ key: String) throws(Failure) -> Tensor {
        let tensor = try file.tensor(key)
        guard tensor.dtype.isFloatingPoint, tensor.shape.count == 2 || tensor.shape.count == 4, tensor.count > 0 else {
            throw invalid("\(key) is \(tensor.dtype.safetensorsName) \(tensor.shape), not a matrix", field: key)
        }
        return tensor.reshaped([tensor.shape[0], tensor.shape.dropFirst().reduce(1, *)])
    }

    // MARK: Words

    private func warnings(_ deltas: [String: AdapterWeights.Delta], format: AdapterFormat) -> [String] {
        var warnings: [String] = []
        let unsaid = deltas.values.filter { $0.alpha == nil }
        if let rank = unsaid.map(\.rank).max() {
            warnings.append(
                "the file does not say its alpha: the scale is taken as 1. Trained with alpha a at rank \(rank), it wants "
                    + "the weight a / \(rank) (0.5 for the official fine-tuning's defaults, 1 / \(rank) for SAT's)")
        }
        if format == .sat {
            warnings.append("SAT files do not say their alpha: SAT's default of 1 gives the scale 1 / rank")
        }
        if magnitudes > 0 || file.metadata?.usesDoRA == true {
            warnings.append("the magnitudes of DoRA are left out, as diffusers does: results differ from the training")
        }
        if Set(deltas.values.map(\.rank)).count > 1 { warnings.append("the ranks differ from layer to layer") }
        return warnings
    }

    private func invalid(_ what: String, field: String) -> Failure {
        Failure(
            "adapter_invalid", "\(file.label): \(what).", field: field,
            remedy: "The file is damaged or of another kind; save the adapter again.")
    }

    private func keysUnknown(_ names: [String]) -> Failure {
        let shown = names.prefix(4).joined(separator: ", ")
        let more = names.count > 4 ? " and \(names.count - 4) more" : ""
        return Failure(
            "adapter_key_unknown", "\(file.label) has keys without a place in the transformer: \(shown)\(more).",
            field: names.first,
            remedy: "Only LoRA weights of a CogVideoX transformer can be used; save those alone.")
    }

    private func prefixMissing(_ name: String) -> Failure {
        Failure(
            "adapter_prefix_missing",
            "\(file.label): \(name) does not begin with \"transformer.\", so diffusers would load nothing of the file.",
            field: name, remedy: "Put \"transformer.\" before every key and save the file again.")
    }

    private func unsupported(_ name: String, _ kind: String) -> Failure {
        Failure(
            "adapter_unsupported", "\(file.label): \(name) belongs to another kind of adapter than LoRA.", field: name,
            remedy: "Only LoRA adapters can be used; LoKr, LoHa and OFT cannot.")
    }
}
