/// One part of a diffusers pipeline folder; the raw value is the folder's name.
package enum Component: String, Sendable, CaseIterable {
    case transformer
    case vae
    case textEncoder = "text_encoder"
    case tokenizer
    case scheduler

    /// Whether the folder holds safetensors weights.
    package var hasWeights: Bool { self == .transformer || self == .vae || self == .textEncoder }

    /// The configuration file relative to the model folder; a tokenizer has none that must exist.
    var configName: String? {
        switch self {
        case .transformer, .vae, .textEncoder: "\(rawValue)/config.json"
        case .scheduler: "scheduler/scheduler_config.json"
        case .tokenizer: nil
        }
    }
}
