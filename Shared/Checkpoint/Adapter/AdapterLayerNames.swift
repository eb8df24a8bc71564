/// The linear layers of `CogVideoXTransformer3DModel` that an adapter may change, by their names in diffusers.
enum AdapterLayerNames {
    private static let ofBlock = [
        "attn1.to_q", "attn1.to_k", "attn1.to_v", "attn1.to_out.0", "ff.net.0.proj", "ff.net.2", "norm1.linear",
        "norm2.linear",
    ]
    private static let ofModel = [
        "patch_embed.proj", "patch_embed.text_proj", "time_embedding.linear_1", "time_embedding.linear_2",
        "ofs_embedding.linear_1", "ofs_embedding.linear_2", "norm_out.linear", "proj_out",
    ]
    private static let block = "transformer_blocks"

    /// Whether the transformer has a linear layer (or the patch convolution) of this name.
    static func contains(_ name: String) -> Bool {
        if ofModel.contains(name) { return true }
        let parts = name.split(separator: ".", maxSplits: 2)
        guard parts.count == 3, parts[0] == block, isIndex(parts[1]) else { return false }
        return ofBlock.contains(String(parts[2]))
    }

    /// The layer that kohya's scripts write with underscores for dots, `transformer_blocks_0_attn1_to_q`.
    static func underscored(_ name: Substring) -> String? {
        if let found = ofModel.first(where: { $0.replacing(".", with: "_") == name }) { return found }
        guard name.hasPrefix("\(block)_") else { return nil }
        let rest = name.dropFirst(block.count + 1)
        let index = rest.prefix { $0 != "_" }
        let tail = rest.dropFirst(index.count + 1)
        guard isIndex(index), let found = ofBlock.first(where: { $0.replacing(".", with: "_") == tail }) else {
            return nil
        }
        return "\(block).\(index).\(found)"
    }

    private static func isIndex(_ text: Substring) -> Bool {
        (1...4).contains(text.count) && text.allSatisfy { $0.isASCII && $0.isNumber }
    }
}
