/// Who names adapter weights how.
package enum AdapterFormat: String, Sendable, CaseIterable {
    /// `transformer.LAYER.lora_A.weight`, and the older `lora.down` and `to_q_lora` spellings.
    case diffusers
    /// `base_model.model.LAYER.lora_A.weight`, as `save_pretrained` of peft writes it beside `adapter_config.json`.
    case peft
    /// `lora_unet__LAYER.lora_down.weight` with underscores for dots and an `alpha` of its own.
    case kohya
    /// `model.diffusion_model.….matrix_A.0`, as SAT trains it.
    case sat
}

/// What a key of an adapter file holds.
struct AdapterKey: Hashable {
    enum Role: Hashable {
        case down, up, bias, alpha
        /// The magnitude vector of DoRA, which diffusers drops.
        case magnitude
    }

    let format: AdapterFormat
    /// The layer in diffusers' terms.
    let layer: String
    let role: Role

    /// Why a key has no place.
    enum Misfit: Error {
        /// Not a name of a LoRA weight at all.
        case unknown
        /// A LoRA weight of a layer that the transformer does not have.
        case layer(String)
        /// A LoRA weight without the prefix that says which network it changes.
        case prefix
        /// Another kind of adapter.
        case unsupported(String)
        /// Weights of the base model in a SAT checkpoint.
        case base
    }

    init(_ key: String) throws(Misfit) {
        for kind in ["lokr_", "hada_", "oft_", "lora_mid"] where key.contains(kind) { throw .unsupported(kind) }
        if key.contains(".matrix_A.") || key.contains(".matrix_B.") {
            try self.init(sat: key)
        } else if key.hasPrefix("lora_") {
            try self.init(kohya: key)
        } else if key.hasPrefix("model.diffusion_model.") || SATTransformerKeys.isOtherPart(key) {
            throw .base
        } else {
            try self.init(dotted: key)
        }
    }

    private init(format: AdapterFormat, layer: String, role: Role) {
        self.format = format
        self.layer = layer
        self.role = role
    }

    // MARK: Formats

    private static let prefixes: [(String, AdapterFormat)] = [
        ("base_model.model.transformer.", .peft), ("base_model.model.", .peft), ("transformer.", .diffusers),
        ("diffusion_model.", .diffusers),
    ]

    private static let endings: [(String, Role)] = [
        (".lora_A.weight", .down), (".lora_B.weight", .up), (".lora_B.bias", .bias), (".lora.down.weight", .down),
        (".lora.up.weight", .up), (".lora_down.weight", .down), (".lora_up.weight", .up),
        (".lora_linear_layer.down.weight", .down), (".lora_linear_layer.up.weight", .up),
        ("_lora.down.weight", .down), ("_lora.up.weight", .up), (".lora_magnitude_vector.weight", .magnitude),
        (".lora_magnitude_vector", .magnitude), (".dora_scale", .magnitude), (".alpha", .alpha),
    ]

    private init(dotted key: String) throws(Misfit) {
        // peft writes the adapter's own name behind lora_A when it saves a raw state dict.
        let plain = key.replacing(".default.weight", with: ".weight").replacing(".default.bias", with: ".bias")
        guard let (ending, role) = Self.endings.first(where: { plain.hasSuffix($0.0) }) else { throw .unknown }
        guard let (prefix, format) = Self.prefixes.first(where: { plain.hasPrefix($0.0) }) else {
            let bare = String(plain.dropLast(ending.count))
            throw AdapterLayerNames.contains(bare) ? .prefix : .unknown
        }
        // Old diffusers put the attention layers below a processor.
        let layer = plain.dropFirst(prefix.count).dropLast(ending.count).replacing(".processor.", with: ".")
        let named = layer.hasSuffix(".to_out") ? "\(layer).0" : String(layer)
        guard AdapterLayerNames.contains(named) else { throw .layer(named) }
        self.init(format: format, layer: named, role: role)
    }

    private init(kohya key: String) throws(Misfit) {
        let endings: [(String, Role)] = [
            (".lora_down.weight", .down), (".lora_up.weight", .up), (".alpha", .alpha), (".dora_scale", .magnitude),
        ]
        guard let (ending, role) = endings.first(where: { key.hasSuffix($0.0) }) else { throw .unknown }
        let prefixes = ["lora_unet__", "lora_unet_", "lora_transformer_"]
        let name = key.dropLast(ending.count)
        guard let prefix = prefixes.first(where: name.hasPrefix) else { throw .layer(String(name)) }
        guard let layer = AdapterLayerNames.underscored(name.dropFirst(prefix.count)) else {
            throw .layer(String(name))
        }
        self.init(format: .kohya, layer: layer, role: role)
    }

    /// `…attention.query_key_value.matrix_A.{0,1,2}` for q, k and v; `matrix_A.0` elsewhere.
    private init(sat key: String) throws(Misfit) {
        let name = SATTransformerKeys.withoutPrefix(key)
        let role: Role = name.contains(".matrix_A.") ? .down : .up
        let parts = name.split(separator: role == .down ? ".matrix_A." : ".matrix_B.")
        guard parts.count == 2, let index = Int(parts[1]),
            let layers = SATTransformerKeys.modules(of: String(parts[0])),
            layers.indices.contains(index), AdapterLayerNames.contains(layers[index])
        else { throw .layer(name) }
        self.init(format: .sat, layer: layers[index], role: role)
    }
}
