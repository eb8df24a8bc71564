package import Failure

/// `vae/config.json` of `AutoencoderKLCogVideoX`; absent fields hold the class defaults of diffusers.
package struct AutoencoderKLConfig: Sendable, Hashable, Codable {
    package var inChannels: Int
    package var outChannels: Int
    /// Channels of each resolution level, from pixels to latents.
    package var blockOutChannels: [Int]
    package var latentChannels: Int
    package var layersPerBlock: Int
    package var normEps: Double
    package var normNumGroups: Int
    package var temporalCompressionRatio: Int
    /// Native size in pixels; also twice the size of a decoding tile.
    package var sampleHeight: Int
    package var sampleWidth: Int
    /// Latents of the diffusion process are `scalingFactor` × the autoencoder's own.
    package var scalingFactor: Double
    /// CogVideoX 1.5 image-to-video divides image latents by the scaling factor instead of multiplying.
    package var invertScaleLatents: Bool

    /// Pixels per latent in height and width.
    package var spatialCompressionRatio: Int { 1 << (blockOutChannels.count - 1) }
    /// Levels that double the frame count: log2 of the temporal compression.
    package var temporalLevels: Int { temporalCompressionRatio.trailingZeroBitCount }

    /// Reads and validates `vae/config.json` in a model folder; errors are `model_config_invalid`.
    package init(folder: String) throws(Failure) {
        let file = try ConfigFile(folder: folder, name: "vae/config.json")
        try file.requireClass(["AutoencoderKLCogVideoX"])
        _ = try file.choice("act_fn", default: "silu", of: ["silu", "swish"])
        inChannels = try file.extent("in_channels", default: 3)
        outChannels = try file.extent("out_channels", default: 3)
        blockOutChannels = try file.extents("block_out_channels", default: [128, 256, 256, 512])
        latentChannels = try file.extent("latent_channels", default: 16)
        layersPerBlock = try file.integer("layers_per_block", default: 3, in: 1...64)
        normEps = try file.positiveNumber("norm_eps", default: 1e-6)
        normNumGroups = try file.extent("norm_num_groups", default: 32)
        temporalCompressionRatio = try file.integer("temporal_compression_ratio", default: 4, in: 1...64)
        sampleHeight = try file.extent("sample_height", default: 480)
        sampleWidth = try file.extent("sample_width", default: 720)
        scalingFactor = try file.positiveNumber("scaling_factor", default: 1.15258426)
        invertScaleLatents = try file.bool("invert_scale_latents", default: false)
        try checkCombinations(file)
    }

    private func checkCombinations(_ file: ConfigFile) throws(Failure) {
        for field in ["use_quant_conv", "use_post_quant_conv"] where try file.bool(field, default: false) {
            throw file.invalid(field, "false: no CogVideoX autoencoder has this convolution")
        }
        let blockClasses = ["down_block_types": "CogVideoXDownBlock3D", "up_block_types": "CogVideoXUpBlock3D"]
        for (field, blockClass) in blockClasses.sorted(by: { $0.key < $1.key }) {
            guard let value = file[field] else { continue }
            guard value == .array(Array(repeating: .string(blockClass), count: blockOutChannels.count)) else {
                throw file.invalid(field, "\(blockClass) for each of \(blockOutChannels.count) levels")
            }
        }
        guard outChannels == 3 else { throw file.invalid("out_channels", "3 (red, green, blue)") }
        guard blockOutChannels.allSatisfy({ $0 % normNumGroups == 0 }) else {
            throw file.invalid("norm_num_groups", "a divisor of every block_out_channels entry \(blockOutChannels)")
        }
        guard temporalCompressionRatio.nonzeroBitCount == 1, temporalLevels < blockOutChannels.count else {
            throw file.invalid("temporal_compression_ratio", "a power of two within \(blockOutChannels.count) levels")
        }
    }
}
