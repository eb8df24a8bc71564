package import Failure
import FoundationEssentials

/// An opened diffusers folder of the CogVideoX family: configurations parsed and validated, weights not touched.
package struct ModelFolder: Sendable {
    /// The folder as it was named, without a trailing slash.
    package let path: String
    /// `_class_name` of `model_index.json`, such as `CogVideoXPipeline`.
    package let pipelineClass: String
    package let transformer: Transformer3DConfig
    package let vae: AutoencoderKLConfig
    package let textEncoder: T5Config
    package let scheduler: SchedulerConfig

    /// The folder with `spiece.model` or `tokenizer.json`.
    package var tokenizerPath: String { path + "/tokenizer" }
    /// The last path component, for people.
    package var name: String { path.split(separator: "/").last.map(String.init) ?? path }

    /// The pipelines of diffusers whose transformer, autoencoder and text encoder this project knows.
    package static let pipelineClasses = [
        "CogVideoXPipeline", "CogVideoXImageToVideoPipeline", "CogVideoXVideoToVideoPipeline",
        "CogVideoXFunControlPipeline",
    ]

    /// Opens the folder `path`.
    ///
    /// Fails with `model_not_found` when there is no `model_index.json`, and with `model_config_invalid`, naming file
    /// and field, when a configuration is missing, malformed or at odds with another.
    package init(path: String) throws(Failure) {
        var trimmed = path
        while trimmed.count > 1 && trimmed.hasSuffix("/") { trimmed.removeLast() }
        self.path = trimmed
        guard FileManager.default.fileExists(atPath: trimmed + "/model_index.json") else {
            throw Failure(
                "model_not_found", "\(trimmed) holds no model_index.json.", field: "model",
                remedy: "Name the folder of a whole diffusers checkpoint, the one with model_index.json in it.")
        }
        let index = try ConfigFile(folder: trimmed, name: "model_index.json")
        pipelineClass = try index.choice("_class_name", default: "", of: Self.pipelineClasses)
        transformer = try Transformer3DConfig(folder: trimmed)
        vae = try AutoencoderKLConfig(folder: trimmed)
        textEncoder = try T5Config(folder: trimmed)
        scheduler = try SchedulerConfig(folder: trimmed)
        try checkAgreement()
    }

    private func checkAgreement() throws(Failure) {
        func disagree(_ field: String, _ message: String) -> Failure {
            Failure(
                "model_config_invalid", "\(path): \(message)", field: field,
                remedy: "The folders do not belong to one checkpoint; download it again.")
        }
        guard textEncoder.dModel == transformer.textEmbedDim else {
            throw disagree(
                "transformer/config.json: text_embed_dim",
                "the text encoder yields \(textEncoder.dModel) features, the transformer reads \(transformer.textEmbedDim)."
            )
        }
        guard vae.latentChannels == transformer.outChannels else {
            throw disagree(
                "transformer/config.json: out_channels",
                "the autoencoder has \(vae.latentChannels) latent channels, the transformer \(transformer.outChannels)."
            )
        }
        guard transformer.inChannels >= transformer.outChannels else {
            throw disagree(
                "transformer/config.json: in_channels",
                "\(transformer.inChannels) input channels cannot hold \(transformer.outChannels) latent channels.")
        }
        guard vae.temporalCompressionRatio == transformer.temporalCompressionRatio else {
            throw disagree(
                "transformer/config.json: temporal_compression_ratio",
                "the autoencoder compresses time \(vae.temporalCompressionRatio) times and the transformer expects "
                    + "\(transformer.temporalCompressionRatio).")
        }
    }

    /// Maps the weights of `component` into memory; nothing is read before it is used.
    ///
    /// Follows the shard index when there is one. Fails with `weights_not_found`, `missing_shard` or
    /// `corrupt_safetensors`, naming the file.
    package func weights(_ component: Component) throws(Failure) -> WeightMap {
        try WeightMap(folder: path, component: component)
    }
}
