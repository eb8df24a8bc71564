package import Failure
import FoundationEssentials
package import Tensor

/// The tensors of one component, whichever files they lie in. Tensors are views of mapped files where possible.
package struct WeightMap: Sendable {
    /// `transformer`, `vae` or `text_encoder`, for messages.
    package let component: Component
    private let folder: String
    private let files: [String: SafetensorsFile]
    private let placement: [String: String]

    /// Every key, sorted.
    package var names: [String] { placement.keys.sorted() }

    init(folder: String, component: Component) throws(Failure) {
        self.component = component
        self.folder = folder
        let found = try WeightFiles(folder: folder, component: component)
        var files: [String: SafetensorsFile] = [:]
        for name in found.names {
            let path = "\(folder)/\(component.rawValue)/\(name)"
            try Self.refusePointerFile(path)
            files[name] = try SafetensorsFile(path: path)
        }
        self.files = files
        if let placement = found.placement {
            self.placement = placement
            try checkPlacement()
        } else {
            var placement: [String: String] = [:]
            for (name, file) in files {
                for key in file.names { placement[key] = name }
            }
            self.placement = placement
        }
    }

    /// The tensor `key` in the file's own dtype; an unknown key is `checkpoint_keys_mismatch`.
    package func tensor(_ key: String) throws(Failure) -> Tensor {
        guard let name = placement[key], let file = files[name] else {
            throw Failure(
                "checkpoint_keys_mismatch", "\(component.rawValue) has no tensor \(key).",
                field: "\(component.rawValue): \(key)")
        }
        return try file.tensor(key)
    }

    package func contains(_ key: String) -> Bool { placement[key] != nil }

    /// Compares the keys and shapes with what a network expects; dtypes must be floating point.
    ///
    /// `expected` maps each key to its shape. Keys of `optional` may be absent. Keys for which `ignoring` is true are
    /// not looked at unless they are expected. Everything wrong is told in one `checkpoint_keys_mismatch`.
    package func check(
        expected: [String: [Int]], optional: Set<String> = [], ignoring: (String) -> Bool = { _ in false }
    ) throws(Failure) {
        let missing = expected.keys.filter { placement[$0] == nil && !optional.contains($0) }.sorted()
        let unexpected = placement.keys.filter { expected[$0] == nil && !ignoring($0) }.sorted()
        var misshapen: [String] = []
        for (key, shape) in expected.sorted(by: { $0.key < $1.key }) where placement[key] != nil {
            let tensor = try tensor(key)
            if tensor.shape != shape {
                misshapen.append("\(key) is \(tensor.shape), not \(shape)")
            } else if !tensor.dtype.isFloatingPoint {
                misshapen.append("\(key) is \(tensor.dtype.safetensorsName), not a floating dtype")
            }
        }
        guard missing.isEmpty, unexpected.isEmpty, misshapen.isEmpty else {
            var parts: [String] = []
            if !missing.isEmpty { parts.append("missing: " + Self.listed(missing)) }
            if !unexpected.isEmpty { parts.append("unexpected: " + Self.listed(unexpected)) }
            if !misshapen.isEmpty { parts.append("misshapen: " + Self.listed(misshapen)) }
            throw Failure(
                "checkpoint_keys_mismatch",
                "The \(component.rawValue) weights in \(folder) do not fit their configuration. "
                    + parts.joined(separator: ". ") + ".",
                field: component.rawValue, remedy: "Weights and config.json must come from the same checkpoint.")
        }
    }

    /// The first keys of a list and how many follow.
    private static func listed(_ items: [String]) -> String {
        let shown = items.prefix(6).joined(separator: "; ")
        return items.count > 6 ? "\(shown); and \(items.count - 6) more" : shown
    }

    private func checkPlacement() throws(Failure) {
        let present = files.mapValues { Set($0.names) }
        let lost = placement.filter { key, name in present[name]?.contains(key) != true }
        guard let first = lost.min(by: { $0.key < $1.key }) else { return }
        throw Failure(
            "corrupt_safetensors",
            "\(folder)/\(component.rawValue)/\(first.value) lacks \(first.key), which the shard index places there"
                + (lost.count > 1 ? " (and \(lost.count - 1) more)." : "."),
            field: "\(component.rawValue)/\(first.value)", remedy: "Download the shard again.")
    }

    /// A clone without Git LFS leaves small text files where the weights should be.
    private static func refusePointerFile(_ path: String) throws(Failure) {
        guard let size = FileIdentity(path: path)?.byteCount, size < 1024 else { return }
        guard let bytes = try? Data(contentsOf: URL(filePath: path)),
            bytes.starts(with: Data("version https://git-lfs".utf8))
        else { return }
        throw Failure(
            "corrupt_safetensors", "\(path) is a Git LFS pointer, not the weights.", field: path,
            remedy: "Run git lfs pull in the checkpoint folder.")
    }
}
