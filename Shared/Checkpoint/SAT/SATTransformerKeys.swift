/// The names of a SAT transformer in diffusers' terms (reference: `convert_cogvideox_to_diffusers.py`).
enum SATTransformerKeys {
    private static let prefix = "model.diffusion_model."
    /// Siblings of the transformer in SAT's training engine.
    private static let otherParts = ["first_stage_model.", "conditioner.", "denoiser.", "loss_fn.", "sampler."]
    /// Position tables and SAT's unused token table.
    private static let computed = [
        "freqs_sin", "freqs_cos", "position_embedding", "embed_tokens", "word_embeddings",
    ]

    private static let modules = [
        "time_embed.0": "time_embedding.linear_1", "time_embed.2": "time_embedding.linear_2",
        "ofs_embed.0": "ofs_embedding.linear_1", "ofs_embed.2": "ofs_embedding.linear_2",
        "mixins.patch_embed.proj": "patch_embed.proj", "mixins.patch_embed.text_proj": "patch_embed.text_proj",
        "mixins.final_layer.norm_final": "norm_out.norm", "mixins.final_layer.linear": "proj_out",
        "mixins.final_layer.adaLN_modulation.1": "norm_out.linear", "transformer.final_layernorm": "norm_final",
    ]
    private static let layerModules = [
        "input_layernorm": "norm1.norm", "post_attention_layernorm": "norm2.norm", "attention.dense": "attn1.to_out.0",
        "mlp.dense_h_to_4h": "ff.net.0.proj", "mlp.dense_4h_to_h": "ff.net.2",
    ]

    static let positions = "patch_embed.pos_embedding"

    static func key(_ key: String) -> SATKey {
        if isOtherPart(key) { return .dropped }
        let name = key.hasPrefix(prefix) ? String(key.dropFirst(prefix.count)) : key
        if computed.contains(where: name.contains) { return .dropped }
        if name == "mixins.pos_embed.pos_embedding" { return .becomes([SATPiece(name: positions, source: key)]) }
        guard let dot = name.lastIndex(of: "."), ["weight", "bias"].contains(name[name.index(after: dot)...]) else {
            return .unknown
        }
        let module = String(name[..<dot]), suffix = String(name[dot...])
        if let renamed = modules[module] { return .becomes([SATPiece(name: renamed + suffix, source: key)]) }
        return layer(module, suffix: suffix, source: key)
    }

    /// The linear layers, in diffusers' terms, of a SAT module below the diffusion model: three for a fused one.
    static func modules(of module: String) -> [String]? {
        if let renamed = modules[module] { return [renamed] }
        guard case .becomes(let pieces) = layer(module, suffix: "", source: module) else { return nil }
        return pieces.map(\.name)
    }

    /// Whether a key belongs to a sibling of the transformer in SAT's training engine.
    static func isOtherPart(_ key: String) -> Bool { otherParts.contains(where: key.hasPrefix) }

    static func withoutPrefix(_ key: String) -> String {
        key.hasPrefix(prefix) ? String(key.dropFirst(prefix.count)) : key
    }

    private static func layer(_ module: String, suffix: String, source: String) -> SATKey {
        let lists = [
            ("mixins.adaln_layer.query_layernorm_list.", "attn1.norm_q"),
            ("mixins.adaln_layer.key_layernorm_list.", "attn1.norm_k"),
        ]
        for (list, renamed) in lists where module.hasPrefix(list) {
            guard let index = Int(module.dropFirst(list.count)) else { return .unknown }
            return .becomes([SATPiece(name: "transformer_blocks.\(index).\(renamed)\(suffix)", source: source)])
        }
        let modulations = "mixins.adaln_layer.adaLN_modulations."
        if module.hasPrefix(modulations), module.hasSuffix(".1") {
            guard let index = Int(module.dropFirst(modulations.count).dropLast(2)) else { return .unknown }
            return .becomes(modulation("transformer_blocks.\(index)", suffix: suffix, source: source))
        }
        let parts = module.split(separator: ".", maxSplits: 3)
        guard parts.count == 4, parts[0] == "transformer", parts[1] == "layers", let index = Int(parts[2]) else {
            return .unknown
        }
        let block = "transformer_blocks.\(index)"
        if parts[3] == "attention.query_key_value" {
            return .becomes(
                ["to_q", "to_k", "to_v"].enumerated().map { part, name in
                    SATPiece(
                        name: "\(block).attn1.\(name)\(suffix)", source: source, parts: [part], partCount: 3)
                })
        }
        guard let renamed = layerModules[String(parts[3])] else { return .unknown }
        return .becomes([SATPiece(name: "\(block).\(renamed)\(suffix)", source: source)])
    }

    /// SAT has shift, scale and gate of (video, text) × (attention, feed-forward) in one layer of twelve parts;
    /// diffusers has two layers, one before attention and one before the feed-forward part.
    private static func modulation(_ block: String, suffix: String, source: String) -> [SATPiece] {
        [("norm1", [0, 1, 2, 6, 7, 8]), ("norm2", [3, 4, 5, 9, 10, 11])].map { norm, parts in
            SATPiece(name: "\(block).\(norm).linear\(suffix)", source: source, parts: parts, partCount: 12)
        }
    }
}
