import Failure

/// The files that a converted checkpoint takes over as they are: text encoder, vocabulary, and what a base gives.
enum TakenFiles {
    private static let vocabulary = [
        "added_tokens.json", "special_tokens_map.json", "spiece.model", "tokenizer.json", "tokenizer_config.json",
    ]

    /// Pairs of a file and its place below the model folder. Failures: `conversion_incomplete`, `weights_not_found`,
    /// `missing_shard`, `model_config_invalid`.
    static func list(
        source: SATSource, tokenizer: String?, base: String?, converted: Set<Component>
    ) throws(Failure) -> [(source: String, target: String)] {
        var files: [(source: String, target: String)] = []
        var missing: [Component] = []
        if let base {
            for name in ["model_index.json", "zoetrope.json"] where FileIdentity(path: "\(base)/\(name)") != nil {
                files.append(("\(base)/\(name)", name))
            }
            for component in converted { files += try whole(component, of: base, weights: false) }
            files += try whole(.scheduler, of: base)
        }
        for component in [Component.transformer, .vae] where !converted.contains(component) {
            if let base { files += try whole(component, of: base) } else { missing.append(component) }
        }
        if let folder = source.textEncoder {
            files += try textEncoder(folder)
        } else if let base {
            files += try whole(.textEncoder, of: base)
        } else {
            missing.append(.textEncoder)
        }
        let found = vocabulary(
            in: [
                tokenizer, source.textEncoder.map { "\($0)/tokenizer" }, source.textEncoder,
                base.map { "\($0)/tokenizer" },
            ]
            .compactMap(\.self))
        if found.isEmpty { missing.append(.tokenizer) }
        files += found
        guard missing.isEmpty else { throw incomplete(missing) }
        return files
    }

    private static func incomplete(_ missing: [Component]) -> Failure {
        Failure(
            "conversion_incomplete",
            "There is no \(missing.map(\.rawValue).joined(separator: ", no ")) to make a whole model of.",
            field: missing.first?.rawValue,
            remedy:
                "Give --vae FILE, --text-encoder FOLDER and --tokenizer FOLDER, or --base FOLDER, a diffusers folder "
                + "that has what is missing.")
    }

    /// The files of one component of a diffusers folder.
    private static func whole(
        _ component: Component, of base: String, weights: Bool = true
    ) throws(Failure) -> [(source: String, target: String)] {
        var names = component.configName.map { [$0] } ?? []
        if weights, component.hasWeights {
            let found = try WeightFiles(folder: base, component: component)
            names += (found.names + [found.index].compactMap(\.self)).map { "\(component.rawValue)/\($0)" }
        }
        for name in names where FileIdentity(path: "\(base)/\(name)") == nil {
            throw Failure(
                "model_config_invalid", "\(base)/\(name) cannot be read.", field: name,
                remedy: "The base must be a whole diffusers checkpoint.")
        }
        return names.map { ("\(base)/\($0)", $0) }
    }

    /// A T5 folder as transformers saves it: alone, or as a part of a diffusers folder.
    private static func textEncoder(_ folder: String) throws(Failure) -> [(source: String, target: String)] {
        let inner = "\(folder)/text_encoder"
        let place = ModelFileSystem.isFolder(inner) ? inner : folder
        let names = ModelFileSystem.files(in: place).filter {
            $0 == "config.json" || $0.hasSuffix(".safetensors") || $0.hasSuffix(".safetensors.index.json")
        }
        guard names.contains("config.json"), names.contains(where: { $0.hasSuffix(".safetensors") }) else {
            throw Failure(
                "weights_not_found", "\(place) holds no T5 encoder: config.json and .safetensors files.",
                field: "text_encoder", remedy: "Name the folder of a T5 v1.1 encoder saved with safe_serialization.")
        }
        return names.map { ("\(place)/\($0)", "text_encoder/\($0)") }
    }

    /// The vocabulary files of the first folder that has any.
    private static func vocabulary(in folders: [String]) -> [(source: String, target: String)] {
        for folder in folders {
            let inner = ModelFileSystem.isFolder("\(folder)/tokenizer") ? "\(folder)/tokenizer" : folder
            let names = vocabulary.filter { FileIdentity(path: "\(inner)/\($0)") != nil }
            guard names.contains("spiece.model") || names.contains("tokenizer.json") else { continue }
            return names.map { ("\(inner)/\($0)", "tokenizer/\($0)") }
        }
        return []
    }
}
