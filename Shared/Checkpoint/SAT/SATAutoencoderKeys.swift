/// The names of a SAT autoencoder in diffusers' terms (reference: `convert_cogvideox_to_diffusers.py`).
enum SATAutoencoderKeys {
    private static let prefix = "first_stage_model."

    /// `levels` is the number of resolutions: SAT numbers the decoder's from pixels to latents, diffusers from latents
    /// to pixels.
    static func key(_ key: String, levels: Int) -> SATKey {
        let name = key.hasPrefix(prefix) ? String(key.dropFirst(prefix.count)) : key
        if name.hasPrefix("loss") { return .dropped }
        var parts = name.split(separator: ".").map(String.init)
        guard parts.count >= 3, parts[0] == "encoder" || parts[0] == "decoder" else { return .unknown }
        switch (parts[0], parts[1]) {
        case ("encoder", "down"):
            parts[1] = "down_blocks"
        case ("decoder", "up"):
            guard let level = Int(parts[2]), (0..<levels).contains(level) else { return .unknown }
            parts[1] = "up_blocks"
            parts[2] = String(levels - 1 - level)
        case (_, "mid"):
            guard parts[2] == "block_1" || parts[2] == "block_2" else { return .unknown }
            parts[1] = "mid_block"
            parts[2] = parts[2] == "block_1" ? "resnets.0" : "resnets.1"
        case (_, "conv_in"), (_, "conv_out"), (_, "norm_out"): break
        default: return .unknown
        }
        let renamed = [
            "block": "resnets", "downsample": "downsamplers.0", "upsample": "upsamplers.0",
            "nin_shortcut": "conv_shortcut",
        ]
        for index in 2..<parts.count { parts[index] = renamed[parts[index]] ?? parts[index] }
        return .becomes([SATPiece(name: parts.joined(separator: "."), source: key)])
    }

    /// The number of resolutions that the decoder's names tell; nil for a file without a decoder.
    static func levels(_ names: [String]) -> Int? {
        let levels = names.compactMap { name -> Int? in
            let parts = (name.hasPrefix(prefix) ? name.dropFirst(prefix.count) : name[...]).split(separator: ".")
            guard parts.count > 3, parts[0] == "decoder", parts[1] == "up" else { return nil }
            return Int(parts[2])
        }
        return levels.max().map { $0 + 1 }
    }
}
