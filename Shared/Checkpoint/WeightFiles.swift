import Failure
import FoundationEssentials

/// Which safetensors files make up one component, by the naming rules of diffusers and transformers.
struct WeightFiles {
    /// Names inside the component's folder, sorted.
    let names: [String]
    /// The shard index, when the weights are split.
    let index: String?
    /// Which file holds each key; nil for a single file.
    let placement: [String: String]?

    /// Finds the files of `component` in the model folder `folder`.
    ///
    /// A single `stem.safetensors` wins over an index, and plain names win over variants such as
    /// `stem.fp16.safetensors`; this is the order in which the Python libraries look.
    init(folder: String, component: Component) throws(Failure) {
        let place = "\(folder)/\(component.rawValue)"
        let present: [String]
        do {
            present = try FileManager.default.contentsOfDirectory(atPath: place).sorted()
        } catch {
            throw Failure(
                "weights_not_found", "The folder \(place) cannot be listed.", field: component.rawValue,
                remedy: "The folder must hold a whole diffusers checkpoint; download it again.")
        }
        let usual = ["diffusion_pytorch_model", "model"]
        let stems = component == .textEncoder ? usual.reversed() : usual
        for stem in stems {
            if let single = Self.single(stem: stem, variant: nil, in: present) {
                self.init(single: single)
                return
            }
            if let index = Self.index(stem: stem, variant: nil, in: present) {
                try self.init(index: index, place: place, present: present, component: component)
                return
            }
        }
        for stem in stems {
            for variant in ["bf16", "fp16", "fp32"] {
                if let single = Self.single(stem: stem, variant: variant, in: present) {
                    self.init(single: single)
                    return
                }
                if let index = Self.index(stem: stem, variant: variant, in: present) {
                    try self.init(index: index, place: place, present: present, component: component)
                    return
                }
            }
        }
        throw Self.absent(place: place, present: present, component: component)
    }

    private init(single: String) {
        names = [single]
        index = nil
        placement = nil
    }

    private init(index: String, place: String, present: [String], component: Component) throws(Failure) {
        let placement = try Self.placement(index: index, place: place, component: component)
        names = Set(placement.values).sorted()
        self.index = index
        self.placement = placement
        let missing = names.filter { !present.contains($0) }
        guard missing.isEmpty else {
            throw Failure(
                "missing_shard", "\(place)/\(index) names \(missing.joined(separator: ", ")), which is not there.",
                field: "\(component.rawValue)/\(missing[0])", remedy: "Finish the download of the checkpoint.")
        }
    }

    private static func single(stem: String, variant: String?, in present: [String]) -> String? {
        let name = variant.map { "\(stem).\($0).safetensors" } ?? "\(stem).safetensors"
        return present.contains(name) ? name : nil
    }

    private static func index(stem: String, variant: String?, in present: [String]) -> String? {
        guard let variant else {
            let name = "\(stem).safetensors.index.json"
            return present.contains(name) ? name : nil
        }
        return ["\(stem).safetensors.index.\(variant).json", "\(stem).\(variant).safetensors.index.json"]
            .first { present.contains($0) }
    }

    private struct Index: Decodable {
        let weight_map: [String: String]
    }

    private static func placement(
        index: String, place: String, component: Component
    ) throws(Failure) -> [String: String] {
        let field = "\(component.rawValue)/\(index)"
        guard let bytes = try? Data(contentsOf: URL(filePath: "\(place)/\(index)")),
            let parsed = try? JSONDecoder().decode(Index.self, from: bytes), !parsed.weight_map.isEmpty
        else {
            throw Failure(
                "model_config_invalid", "\(place)/\(index) is no shard index: it needs a weight_map of keys to files.",
                field: field, remedy: "Download the index again.")
        }
        for (key, file) in parsed.weight_map where file.contains("/") || !file.hasSuffix(".safetensors") {
            throw Failure(
                "model_config_invalid", "\(place)/\(index) places \(key) in \"\(file)\", which is no file beside it.",
                field: field, remedy: "Download the index again.")
        }
        return parsed.weight_map
    }

    private static func absent(place: String, present: [String], component: Component) -> Failure {
        if present.contains(where: { $0.hasSuffix(".safetensors") }) {
            return Failure(
                "weights_not_found",
                "\(place) holds shards without their .safetensors.index.json, or files of an unknown name.",
                field: component.rawValue, remedy: "Finish the download of the checkpoint.")
        }
        if present.contains(where: { $0.hasSuffix(".bin") || $0.hasSuffix(".pt") }) {
            return Failure(
                "weights_not_found", "\(place) holds pickled weights only.", field: component.rawValue,
                remedy: "Save the checkpoint with save_pretrained(safe_serialization=True).")
        }
        return Failure(
            "weights_not_found", "\(place) holds no .safetensors file.", field: component.rawValue,
            remedy: "Finish the download of the checkpoint.")
    }
}
