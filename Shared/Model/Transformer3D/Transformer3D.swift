package import Checkpoint
package import Compute
package import Failure
package import Tensor

/// The diffusion transformer of CogVideoX (`CogVideoXTransformer3DModel`): 2b, 5b, 1.5 and their image-to-video kin.
///
/// A value that shares its packed weights with its copies: open one `DenoisingSession` a job.
package struct Transformer3D: Sendable {
    package let config: Transformer3DConfig
    /// The dtype of activations; statistics, softmax, rotary embedding and modulation vectors are float32 regardless.
    package let dtype: DType
    /// What the weights are merged with.
    package private(set) var adapters: AdapterStack
    let backend: any Backend
    private(set) var patchEmbedding: PatchEmbedding
    private(set) var conditioning: TimestepConditioning
    private(set) var blocks: [TransformerBlock]
    private(set) var head: OutputHead
    private let weights: WeightMap
    private let precision: ProductPrecision

    /// Loads `transformer/` of a checkpoint for work in `dtype` (float32 or bfloat16); weights may be F16, BF16 or F32.
    /// `precision` says how the blocks keep the weights of their products; `adapters` are merged into them.
    ///
    /// Fails with `checkpoint_keys_mismatch`, which lists every wrong key, `adapter_shape_mismatch` and the codes of
    /// `ModelFolder.weights`.
    package init(
        folder: ModelFolder, backend: any Backend, dtype: DType, precision: ProductPrecision = .activation,
        adapters: AdapterStack = .none
    ) throws(Failure) {
        requireWorkingDType(dtype)
        self.adapters = adapters
        self.precision = precision
        let config = folder.transformer
        self.config = config
        self.dtype = dtype
        self.backend = backend
        weights = try folder.weights(.transformer)
        // Fun checkpoints carry a position table that their configuration does not use.
        let expected = Self.expectedWeights(config)
        try weights.check(expected: expected) { $0 == PatchEmbedding.learnedPositionsKey }
        try adapters.check(expected: expected)
        let loader = LayerLoader(
            weights: weights, backend: backend, dtype: dtype, precision: precision, adapters: adapters)
        patchEmbedding = try PatchEmbedding(loader, config: config)
        conditioning = TimestepConditioning(config: config, weights: weights, backend: backend, adapters: adapters)
        var blocks: [TransformerBlock] = []
        for index in 0..<config.numLayers {
            blocks.append(try TransformerBlock(loader, prefix: "transformer_blocks.\(index)", config: config))
        }
        self.blocks = blocks
        head = try OutputHead(loader, config: config)
    }

    /// Merges the weights with `stack` instead of the present adapters.
    ///
    /// What neither of them changes stays as it is; every other weight is packed anew from the mapped file, part by part,
    /// so that no more than one part of the network is in memory twice unless a copy of this value holds the old one.
    /// With an empty stack all bits are those of a network that never had adapters.
    /// Fails with `adapter_shape_mismatch`, before anything is changed, and as reading weights does, after which this
    /// value is of no use.
    package mutating func adapt(to stack: AdapterStack) throws(Failure) {
        try stack.check(expected: Self.expectedWeights(config))
        let before = adapters
        func isChanged(_ prefix: String) -> Bool { before.changes(prefix) || stack.changes(prefix) }
        let loader = LayerLoader(
            weights: weights, backend: backend, dtype: dtype, precision: precision, adapters: stack)
        if isChanged("patch_embed.") { patchEmbedding = try PatchEmbedding(loader, config: config) }
        for index in blocks.indices {
            try blocks[index].adapt(
                loader, prefix: "transformer_blocks.\(index)", config: config, isChanged: isChanged)
        }
        if isChanged("proj_out") { head = try OutputHead(loader, config: config) }
        let modulations =
            TimestepConditioning.layers
            + blocks.indices.flatMap { TimestepConditioning.layers(ofBlock: "transformer_blocks.\($0)") }
        if modulations.contains(where: isChanged) {
            conditioning = TimestepConditioning(config: config, weights: weights, backend: backend, adapters: stack)
        }
        adapters = stack
    }

    /// Bytes that the parts of the network take which `stack` changes: what a copy that shares the rest costs.
    package func changedBytes(_ stack: AdapterStack) -> Int {
        let expected = Self.expectedWeights(config)
        var parts = blocks.indices.flatMap { ["transformer_blocks.\($0).attn1.", "transformer_blocks.\($0).ff."] }
        parts += ["patch_embed.", "proj_out"]
        let changed = parts.filter(stack.changes)
        let elements = expected.filter { key, _ in changed.contains { key.hasPrefix($0) } }
            .reduce(0) { $0 + $1.value.reduce(1, *) }
        return elements * (precision == .int8 ? 1 : dtype.byteCount)
    }

    /// Every key of the checkpoint and its shape.
    package static func expectedWeights(_ config: Transformer3DConfig) -> [String: [Int]] {
        var expected = ExpectedWeights()
        PatchEmbedding.expect(&expected, config: config)
        TimestepConditioning.expect(&expected, config: config)
        for index in 0..<config.numLayers {
            TransformerBlock.expect(&expected, prefix: "transformer_blocks.\(index)", config: config)
        }
        OutputHead.expect(&expected, config: config)
        return expected.shapes
    }

    /// Prepares everything that does not change from step to step of one job.
    ///
    /// `promptEmbeddings` are text features `[length, textEmbedDim]`, one for each prediction that a step needs
    /// (negative and positive for classifier-free guidance), all of one length up to `maxTextSeqLength`. `timesteps`
    /// are those that will be asked for. `condition` are the channels `[frames, C, height, width]` that follow those of the
    /// latents in every frame: the image of image-to-video models, the control video of others.
    /// Fails with `prompt_embeds_misshapen`, `condition_misshapen`, `numeric_fault` and the codes of `LatentGeometry`.
    package func session(
        frames: Int, height: Int, width: Int, promptEmbeddings: [Tensor], timesteps: [Int], condition: Tensor? = nil
    ) throws(Failure) -> DenoisingSession {
        let geometry = try LatentGeometry(config: config, frames: frames, height: height, width: width)
        try check(promptEmbeddings)
        try check(condition, [frames, height, width])
        guard !timesteps.isEmpty else {
            throw Failure("timesteps_missing", "A session needs at least one timestep.", field: "timesteps")
        }
        return DenoisingSession(
            transformer: self, geometry: geometry,
            text: promptEmbeddings.map { patchEmbedding.text($0, backend: backend) },
            modulations: try conditioning.modulations(timesteps: timesteps), condition: condition)
    }

    private func check(_ condition: Tensor?, _ size: [Int]) throws(Failure) {
        guard let condition else { return }
        guard condition.dtype.isFloatingPoint, condition.shape.count == 4, condition.shape[1] < config.inChannels,
            [condition.shape[0], condition.shape[2], condition.shape[3]] == size
        else {
            throw Failure(
                "condition_misshapen",
                "The condition is \(condition.shape) \(condition.dtype) beside latents of frames, height and width "
                    + "\(size), for a model of \(config.inChannels) input channels.",
                field: "condition", remedy: "Encode image or video at the size and length of the clip.")
        }
        try condition.requireFinite("The condition", field: "condition")
    }

    private func check(_ promptEmbeddings: [Tensor]) throws(Failure) {
        let length = promptEmbeddings.first?.shape.first ?? 0
        let lengths =
            config.useLearnedPositionalEmbeddings
            ? config.maxTextSeqLength...config.maxTextSeqLength : 1...config.maxTextSeqLength
        for embedding in promptEmbeddings {
            guard embedding.dtype.isFloatingPoint, embedding.shape == [length, config.textEmbedDim],
                lengths.contains(length)
            else {
                throw Failure(
                    "prompt_embeds_misshapen",
                    "Prompt embeddings are \(embedding.shape) \(embedding.dtype), but must be floating point of shape "
                        + "[\(lengths.lowerBound)…\(lengths.upperBound), \(config.textEmbedDim)], all alike.",
                    field: "prompt_embeds", remedy: "Encode the prompts with the text encoder of this checkpoint.")
            }
            try embedding.requireFinite("The prompt embedding", field: "prompt_embeds")
        }
        guard !promptEmbeddings.isEmpty else {
            throw Failure("prompt_embeds_misshapen", "There is no prompt embedding.", field: "prompt_embeds")
        }
    }
}
