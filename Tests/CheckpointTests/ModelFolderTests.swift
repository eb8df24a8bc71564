import Checkpoint
import DemoModel
import Failure
import Foundation
import Testing

@Suite("A model folder")
struct ModelFolderTests {
    @Test("the demo model opens and tells its sizes")
    func demoModel() throws {
        let folder = try ModelFolder(path: try DemoModel.path() + "/")
        #expect(folder.name == "cogvideox-demo")
        #expect(folder.pipelineClass == "CogVideoXPipeline")
        let transformer = folder.transformer
        #expect(transformer.innerDim == transformer.numAttentionHeads * transformer.attentionHeadDim)
        #expect(folder.transformer.textEmbedDim == folder.textEncoder.dModel)
        #expect(folder.vae.spatialCompressionRatio == 8)
        #expect(FileManager.default.fileExists(atPath: folder.tokenizerPath + "/tokenizer.json"))
    }

    @Test("every variant opens", arguments: Golden.all)
    func variants(name: String) throws {
        let folder = try ModelFolder(path: Golden.path(name))
        #expect(folder.transformer.patchSizeT == (name.hasPrefix("1.5") ? 2 : nil))
        #expect(folder.transformer.useRotaryPositionalEmbeddings == (name != "2b"))
        #expect(folder.transformer.useLearnedPositionalEmbeddings == (name == "5b-i2v"))
        #expect(folder.transformer.ofsEmbedDim == (name == "1.5-i2v" ? 24 : nil))
        #expect(folder.transformer.inChannels == (name.hasSuffix("i2v") ? 8 : 4))
        #expect(folder.transformer.sampleLatentFrames == 3)
        #expect(folder.vae.invertScaleLatents == name.hasPrefix("1.5"))
        #expect(folder.scheduler.snrShiftScale == (name == "2b" ? 3 : 1))
        #expect(folder.scheduler.predictionType == "v_prediction")
    }

    @Test("the text encoder's feed-forward layer is read from feed_forward_proj")
    func textEncoderActivations() throws {
        let gated = try ModelFolder(path: Golden.path("2b")).textEncoder
        #expect(gated.isGatedAct && gated.denseActFn == .geluNew)
        let plain = try ModelFolder(path: Golden.path("5b-i2v")).textEncoder
        #expect(!plain.isGatedAct && plain.denseActFn == .relu)
        let silu = try ModelFolder(path: Golden.path("1.5-i2v")).textEncoder
        #expect(silu.isGatedAct && silu.denseActFn == .silu)
    }

    @Test("a scheduler file without fields means the defaults of the class")
    func schedulerDefaults() throws {
        let copy = try ModelCopy()
        try copy.write("scheduler/scheduler_config.json", "{}")
        let scheduler = try ModelFolder(path: copy.path).scheduler
        #expect(scheduler.className == "CogVideoXDDIMScheduler")
        #expect(scheduler.clipSample)
        #expect(scheduler.predictionType == "epsilon")
        #expect(scheduler.timestepSpacing == "leading")
        #expect(!scheduler.rescaleBetasZeroSNR)
        #expect(scheduler.snrShiftScale == 3)
        #expect(scheduler.betaStart == 0.00085 && scheduler.betaEnd == 0.012)
    }

    @Test("absent transformer and autoencoder fields, and null ones, mean the defaults of the class")
    func modelDefaults() throws {
        let copy = try ModelCopy()
        try copy.edit(
            "transformer/config.json", ["num_layers": nil, "sample_width": nil, "max_text_seq_length": NSNull()])
        try copy.edit("vae/config.json", ["scaling_factor": nil, "norm_eps": nil])
        let folder = try ModelFolder(path: copy.path)
        #expect(folder.transformer.numLayers == 30)
        #expect(folder.transformer.sampleWidth == 90)
        #expect(folder.transformer.maxTextSeqLength == 226)
        #expect(folder.vae.scalingFactor == 1.15258426)
        #expect(folder.vae.normEps == 1e-6)
    }

    @Test("a folder without model_index.json is model_not_found and names the path")
    func notFound() throws {
        let failure = try #require(throws: Failure.self) { try ModelFolder(path: "/nowhere/at-all") }
        #expect(failure.code == "model_not_found")
        #expect(failure.message.contains("/nowhere/at-all"))
    }

    struct Edit: Sendable, CustomTestStringConvertible {
        let file: String
        let field: String
        let json: String

        init(_ file: String, _ field: String, _ json: String) {
            self.file = file
            self.field = field
            self.json = json
        }

        var testDescription: String { "\(file) \(field) = \(json)" }
    }

    @Test(
        "a field of the wrong kind or outside its limits is model_config_invalid and named",
        arguments: [
            Edit("transformer/config.json", "num_layers", "\"two\""),
            Edit("transformer/config.json", "num_layers", "0"),
            Edit("transformer/config.json", "num_layers", "99999999999999"),
            Edit("transformer/config.json", "patch_size", "-2"),
            Edit("transformer/config.json", "patch_size", "1.5"),
            Edit("transformer/config.json", "norm_eps", "0"),
            Edit("transformer/config.json", "use_rotary_positional_embeddings", "1"),
            Edit("transformer/config.json", "activation_fn", "\"gelu\""),
            Edit("transformer/config.json", "_class_name", "\"FluxTransformer2DModel\""),
            Edit("transformer/config.json", "use_learned_positional_embeddings", "true"),
            Edit("transformer/config.json", "text_embed_dim", "33"),
            Edit("transformer/config.json", "out_channels", "5"),
            Edit("vae/config.json", "block_out_channels", "[]"),
            Edit("vae/config.json", "block_out_channels", "\"many\""),
            Edit("vae/config.json", "norm_num_groups", "3"),
            Edit("vae/config.json", "temporal_compression_ratio", "3"),
            Edit("vae/config.json", "use_post_quant_conv", "true"),
            Edit("vae/config.json", "scaling_factor", "-1"),
            Edit("text_encoder/config.json", "feed_forward_proj", "\"swiglu\""),
            Edit("text_encoder/config.json", "model_type", "\"bert\""),
            Edit("scheduler/scheduler_config.json", "beta_schedule", "\"steep\""),
            Edit("scheduler/scheduler_config.json", "trained_betas", "[0.1]"),
            Edit("scheduler/scheduler_config.json", "_class_name", "\"EulerDiscreteScheduler\""),
            Edit("model_index.json", "_class_name", "\"StableDiffusionPipeline\""),
        ])
    func invalidField(edit: Edit) throws {
        let copy = try ModelCopy()
        let value = try JSONSerialization.jsonObject(with: Data(edit.json.utf8), options: .fragmentsAllowed)
        try copy.edit(edit.file, [edit.field: value])
        let failure = try #require(throws: Failure.self) { try ModelFolder(path: copy.path) }
        #expect(failure.code == "model_config_invalid")
        #expect(failure.field?.contains(edit.field) == true, "\(failure)")
    }

    @Test(
        "a configuration that is missing or no JSON object is told by file name",
        arguments: [
            "transformer/config.json", "vae/config.json", "text_encoder/config.json", "scheduler/scheduler_config.json",
        ])
    func brokenFile(file: String) throws {
        for text in ["", "{", "[1, 2]", "\"text\"", nil] {
            let copy = try ModelCopy()
            if let text { try copy.write(file, text) } else { try copy.remove(file) }
            let failure = try #require(throws: Failure.self) { try ModelFolder(path: copy.path) }
            #expect(failure.code == "model_config_invalid")
            #expect(failure.field == file)
        }
    }

    @Test("opening a folder does not need the weights")
    func weightsUntouched() throws {
        let copy = try ModelCopy()
        try copy.remove("transformer/diffusion_pytorch_model.safetensors")
        let folder = try ModelFolder(path: copy.path)
        let failure = try #require(throws: Failure.self) { try folder.weights(.transformer) }
        #expect(failure.code == "weights_not_found")
    }
}
