import Failure

/// The configuration files of a converted checkpoint: sizes come from the weights, the rest from the released variant.
struct SATConfigurations {
    let variant: SATVariant
    /// By the file's name in the model folder.
    private(set) var documents: [(name: String, document: ConfigDocument)] = []

    /// Infers what there is to infer. `autoencoder` and `variant` may be left out; a variant that the weights
    /// contradict is `sat_variant_mismatch`, weights that say too little are `checkpoint_keys_mismatch`.
    init(
        transformer: inout SATComponent, autoencoder: SATComponent?, variant asked: SATVariant?
    ) throws(Failure) {
        variant = try Self.variant(of: transformer, asked: asked)
        if !variant.usesLearnedPositions { transformer.drop(SATTransformerKeys.positions) }
        documents.append(("model_index.json", Self.index(variant)))
        documents.append(("transformer/config.json", try Self.transformer(&transformer, variant)))
        if let autoencoder {
            documents.append(("vae/config.json", try Self.autoencoder(autoencoder, variant)))
        }
        documents.append(("scheduler/scheduler_config.json", Self.scheduler(variant)))
    }

    /// Applies `transformer.sample_width=8` and the like. Failure: `conversion_field_unknown`.
    mutating func apply(_ changes: [String: String], parse: (String) -> JSONValue) throws(Failure) {
        for (place, text) in changes.sorted(by: { $0.key < $1.key }) {
            let parts = place.split(separator: ".", maxSplits: 1).map(String.init)
            let index = documents.firstIndex { $0.name.hasPrefix((parts.first ?? "") + "/") }
            guard parts.count == 2, let index, documents[index].document.set(parts[1], parse(text)) else {
                throw Failure(
                    "conversion_field_unknown", "No configuration that is written has a field \(place).", field: place,
                    remedy: "Name transformer, vae or scheduler and a field of its configuration, such as "
                        + "transformer.sample_width.")
            }
        }
    }

    // MARK: The variant

    private static func variant(of transformer: SATComponent, asked: SATVariant?) throws(Failure) -> SATVariant {
        let shapes = transformer.shapes
        guard let projection = shapes["patch_embed.proj.weight"], let output = shapes["proj_out.weight"],
            let width = shapes["norm_final.weight"]?.first, output.count == 2
        else { throw incomplete(transformer, "patch_embed.proj, proj_out or norm_final") }
        let hasOffset = shapes["ofs_embedding.linear_1.weight"] != nil
        // The first models embed patches by a convolution; SAT also keeps it as the matrix that 1.5 has.
        let isConvolution = projection.count == 4
        let columns = projection.dropFirst().reduce(1, *)
        let readsImage = hasOffset || columns == 2 * output[0]
        let hasTables = transformer.dropped.contains { $0.contains("freqs_sin") || $0.contains("freqs_cos") }
        let hasPositions = shapes[SATTransformerKeys.positions] != nil
        if let asked {
            guard asked.readsImage == readsImage, !(isConvolution && asked.hasTemporalPatches),
                hasOffset == (asked == .nextImage), !asked.usesLearnedPositions || hasPositions,
                asked.usesRotary || !hasTables
            else {
                throw Failure(
                    "sat_variant_mismatch",
                    "\(transformer.file.label) is no \(asked.rawValue): it \(readsImage ? "reads" : "does not read") "
                        + "an image, \(hasOffset ? "has" : "has no") offset embedding, "
                        + "\(hasPositions ? "has" : "has no") position table, and its patch embedding is a "
                        + "\(isConvolution ? "convolution" : "matrix") \(projection).",
                    field: "variant", remedy: "Leave --variant out, or name the one the file is of.")
            }
            return asked
        }
        if !isConvolution { return readsImage ? .nextImage : .next }
        if readsImage { return .largeImage }
        if hasTables { return .large }
        return hasPositions || width == 30 * 64 ? .small : .large
    }

    private static func incomplete(_ component: SATComponent, _ what: String) -> Failure {
        Failure(
            "checkpoint_keys_mismatch", "\(component.file.label) lacks \(what).", field: component.component.rawValue,
            remedy: "Name a whole SAT checkpoint of the family.")
    }

    // MARK: Files

    private static func transformer(
        _ component: inout SATComponent, _ variant: SATVariant
    ) throws(Failure) -> ConfigDocument {
        let shapes = component.shapes
        func extent(_ name: String, _ axis: Int) throws(Failure) -> Int {
            guard let shape = shapes[name], axis < shape.count, shape[axis] > 0 else {
                throw incomplete(component, name)
            }
            return shape[axis]
        }
        let width = try extent("norm_final.weight", 0)
        let headWidth = try extent("transformer_blocks.0.attn1.norm_q.weight", 0)
        let layers = shapes.keys.count { $0.hasPrefix("transformer_blocks.") && $0.hasSuffix(".attn1.norm_q.weight") }
        let volume = variant.hasTemporalPatches ? 8 : 4
        let projection = shapes["patch_embed.proj.weight"] ?? []
        let inputs = projection.dropFirst().reduce(1, *) / volume
        if !variant.hasTemporalPatches, projection.count == 2 {
            component.reshape("patch_embed.proj.weight", [width, inputs, 2, 2])
        }
        let offset = shapes["ofs_embedding.linear_1.weight"]?.first
        let size = variant.sampleSize
        return ConfigDocument([
            ("_class_name", .string("CogVideoXTransformer3DModel")), ("_diffusers_version", .string(version)),
            ("activation_fn", .string("gelu-approximate")), ("attention_bias", .bool(true)),
            ("attention_head_dim", .integer(headWidth)), ("dropout", .number(0)), ("flip_sin_to_cos", .bool(true)),
            ("freq_shift", .integer(0)), ("in_channels", .integer(inputs)), ("max_text_seq_length", .integer(226)),
            ("norm_elementwise_affine", .bool(true)), ("norm_eps", .number(1e-5)),
            ("num_attention_heads", .integer(width / headWidth)), ("num_layers", .integer(layers)),
            ("ofs_embed_dim", offset.map(JSONValue.integer) ?? .null),
            ("out_channels", .integer(try extent("proj_out.weight", 0) / volume)),
            ("patch_bias", .bool(!variant.hasTemporalPatches)), ("patch_size", .integer(2)),
            ("patch_size_t", variant.hasTemporalPatches ? .integer(2) : .null),
            ("sample_frames", .integer(variant.sampleFrames)), ("sample_height", .integer(size.height)),
            ("sample_width", .integer(size.width)), ("spatial_interpolation_scale", .number(1.875)),
            ("temporal_compression_ratio", .integer(4)), ("temporal_interpolation_scale", .number(1)),
            ("text_embed_dim", .integer(try extent("patch_embed.text_proj.weight", 1))),
            ("time_embed_dim", .integer(try extent("time_embedding.linear_1.weight", 0))),
            ("timestep_activation_fn", .string("silu")),
            ("use_learned_positional_embeddings", .bool(variant.usesLearnedPositions)),
            ("use_rotary_positional_embeddings", .bool(variant.usesRotary)),
        ])
    }

    private static func autoencoder(_ component: SATComponent, _ variant: SATVariant) throws(Failure) -> ConfigDocument
    {
        let shapes = component.shapes
        var channels: [JSONValue] = []
        while let shape = shapes["encoder.down_blocks.\(channels.count).resnets.0.conv1.conv.weight"] {
            channels.append(.integer(shape.first ?? 0))
        }
        let layers = shapes.keys.count {
            $0.hasPrefix("encoder.down_blocks.0.resnets.") && $0.hasSuffix(".conv1.conv.weight")
        }
        guard let latent = shapes["decoder.conv_in.conv.weight"], latent.count == 5,
            let input = shapes["encoder.conv_in.conv.weight"], input.count == 5,
            let output = shapes["decoder.conv_out.conv.bias"]?.first, !channels.isEmpty
        else { throw incomplete(component, "the first or last convolutions of an encoder and a decoder") }
        let block = { (name: String) in JSONValue.array(channels.map { _ in .string(name) }) }
        var fields: [(String, JSONValue)] = [
            ("_class_name", .string("AutoencoderKLCogVideoX")), ("_diffusers_version", .string(version)),
            ("act_fn", .string("silu")), ("block_out_channels", .array(channels)),
            ("down_block_types", block("CogVideoXDownBlock3D")), ("force_upcast", .bool(true)),
            ("in_channels", .integer(input[1])), ("latent_channels", .integer(latent[1])), ("latents_mean", .null),
            ("latents_std", .null), ("layers_per_block", .integer(layers)), ("norm_eps", .number(1e-6)),
            ("norm_num_groups", .integer(32)), ("out_channels", .integer(output)), ("sample_height", .integer(480)),
            ("sample_width", .integer(720)), ("scaling_factor", .number(variant.scalingFactor)),
            ("shift_factor", .null),
            ("temporal_compression_ratio", .integer(4)), ("up_block_types", block("CogVideoXUpBlock3D")),
            ("use_post_quant_conv", .bool(false)), ("use_quant_conv", .bool(false)),
        ]
        fields.append(("invert_scale_latents", .bool(variant.hasTemporalPatches)))
        return ConfigDocument(fields)
    }

    private static func scheduler(_ variant: SATVariant) -> ConfigDocument {
        ConfigDocument([
            ("_class_name", .string("CogVideoXDDIMScheduler")), ("_diffusers_version", .string(version)),
            ("beta_end", .number(0.012)), ("beta_schedule", .string("scaled_linear")), ("beta_start", .number(0.00085)),
            ("clip_sample", .bool(false)), ("clip_sample_range", .number(1)), ("num_train_timesteps", .integer(1000)),
            ("prediction_type", .string("v_prediction")), ("rescale_betas_zero_snr", .bool(true)),
            ("sample_max_value", .number(1)), ("set_alpha_to_one", .bool(true)),
            ("snr_shift_scale", .number(variant.snrShiftScale)), ("steps_offset", .integer(0)),
            ("timestep_spacing", .string("trailing")), ("trained_betas", .null),
        ])
    }

    private static func index(_ variant: SATVariant) -> ConfigDocument {
        func part(_ library: String, _ name: String) -> JSONValue { .array([.string(library), .string(name)]) }
        return ConfigDocument([
            ("_class_name", .string(variant.pipelineClass)), ("_diffusers_version", .string(version)),
            ("scheduler", part("diffusers", "CogVideoXDDIMScheduler")),
            ("text_encoder", part("transformers", "T5EncoderModel")),
            ("tokenizer", part("transformers", "T5Tokenizer")),
            ("transformer", part("diffusers", "CogVideoXTransformer3DModel")),
            ("vae", part("diffusers", "AutoencoderKLCogVideoX")),
        ])
    }

    /// The first version of diffusers that reads every field written here.
    private static let version = "0.32.0"
}
