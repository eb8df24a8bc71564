package import Checkpoint
package import Compute
package import Failure
package import Tensor

/// The decoder half of CogVideoX's causal video autoencoder (`AutoencoderKLCogVideoX.decode`): latents to pixels.
///
/// Immutable and shared: open one `DecodingRun` a job, or call `decode`.
package final class AutoencoderKLDecoder: Sendable {
    package let config: AutoencoderKLConfig
    /// The dtype of activations; norms take their statistics in float32 regardless.
    package let dtype: DType
    private let backend: any Backend
    private let inputConvolution: CausalConvolution
    /// The middle block, then each level's resnets with the upsampler that follows them.
    private let stages: [(resnets: [CausalResnet], upsampler: DecoderUpsampler?)]
    private let outputNorm: ChunkNorm
    private let outputConvolution: CausalConvolution

    /// Loads the decoder from `vae/` of a checkpoint for work in `dtype` (float32 or bfloat16).
    ///
    /// The encoder's keys must be there but are not loaded. Fails with `checkpoint_keys_mismatch` and the codes of
    /// `ModelFolder.weights`.
    package init(folder: ModelFolder, backend: any Backend, dtype: DType) throws(Failure) {
        requireWorkingDType(dtype)
        config = folder.vae
        self.dtype = dtype
        self.backend = backend
        let weights = try folder.weights(.vae)
        try weights.check(expected: Self.expectedWeights(config))
        let loader = LayerLoader(weights: weights, backend: backend, dtype: dtype)
        let groups = config.normNumGroups
        let plan = DecoderPlan(config)
        inputConvolution = try CausalConvolution(loader, "decoder.conv_in")
        var stages: [(resnets: [CausalResnet], upsampler: DecoderUpsampler?)] = []
        for level in [nil] + plan.channels.indices.map(Optional.some) {
            var resnets: [CausalResnet] = []
            for resnet in plan.resnets where resnet.level == level {
                resnets.append(try CausalResnet(loader, resnet, groups: groups, isConditioned: true))
            }
            var upsampler: DecoderUpsampler?
            for planned in plan.upsamplers where planned.level == level {
                upsampler = try DecoderUpsampler(loader, planned)
            }
            stages.append((resnets, upsampler))
        }
        self.stages = stages
        outputNorm = try ChunkNorm(loader, "decoder.norm_out", groups: groups, isConditioned: true)
        outputConvolution = try CausalConvolution(loader, "decoder.conv_out")
    }

    /// Every key of the checkpoint, encoder and decoder, and its shape.
    package static func expectedWeights(_ config: AutoencoderKLConfig) -> [String: [Int]] {
        AutoencoderWeights.expected(config).shapes
    }

    /// Pixel frames that `latentFrames` decode to: 4F − 3 for an odd count and 4F for an even one.
    package func frameCount(latentFrames: Int) -> Int {
        latentFrames % 2 == 1
            ? config.temporalCompressionRatio * (latentFrames - 1) + 1
            : config.temporalCompressionRatio * latentFrames
    }

    /// Starts decoding pipeline latents `[frames, latentChannels, height, width]`, floating point.
    ///
    /// With `cacheDirectory`, what chunks hand on to one another waits in a file there instead of in memory. With
    /// `member`, the run decodes that member's rows of the image; every member is given all latents.
    /// Fails with `latents_misshapen`, `numeric_fault`, `cache_file_unusable` and as the member's exchange does.
    package func run(
        latents: Tensor, cacheDirectory: String? = nil, member: SlabMember? = nil
    ) throws(Failure) -> DecodingRun {
        guard latents.dtype.isFloatingPoint, latents.shape.count == 4, latents.shape[1] == config.latentChannels,
            latents.shape.allSatisfy({ (1...(1 << 14)).contains($0) })
        else {
            throw Failure(
                "latents_misshapen",
                "Latents are \(latents.shape) \(latents.dtype), but the decoder reads floating point of shape "
                    + "[frames, \(config.latentChannels), height, width].",
                field: "latents")
        }
        try latents.requireFinite("The latent tensor", field: "latents")
        let scaled = backend.converted(latents, to: .float32).scaled(by: Float(1 / config.scalingFactor))
        let file = try cacheDirectory.map { (path) throws(Failure) in try NamelessFile(directory: path) }
        let frames = backend.permuted(scaled, axes: [0, 2, 3, 1])
        let caches = ConvolutionCaches(file: file)
        guard let member else { return DecodingRun(decoder: self, latents: frames, slab: .whole, caches: caches) }
        precondition(member.plan.height == latents.shape[2], "a plan for \(member.plan.height) rows")
        let slab = Slab(member), own = member.plan.rows[member.index]
        let rows = own.lowerBound - slab.margins.top..<own.upperBound + slab.margins.bottom
        return DecodingRun(
            decoder: self, latents: Tensor.stacked(frames.slices.map { $0.rows(rows) }), slab: slab, caches: caches)
    }

    /// Decodes pipeline latents `[frames, latentChannels, height, width]` chunk by chunk.
    ///
    /// `frames` receives `[t, H, W, 3]` float32 in [0, 1], in order; `progress` is then told (chunks done, chunks).
    /// Either may throw to stop. The leading frames that CogVideoX 1.5 pads with must have been dropped before.
    package func decode(
        latents: Tensor, cacheDirectory: String? = nil,
        progress: (Int, Int) throws(Failure) -> Void = { (_, _) throws(Failure) in },
        frames: (Tensor) throws(Failure) -> Void
    ) throws(Failure) {
        var run = try run(latents: latents, cacheDirectory: cacheDirectory)
        while let chunk = try run.next() {
            try frames(chunk)
            try progress(run.chunksDone, run.chunkCount)
        }
    }

    /// Decodes one chunk of unscaled latents `[frames, height, width, channels]` float32 → `[t, H, W, 3]`, the slab's own
    /// rows of latents that have its margins.
    func chunk(_ latents: Tensor, slab: Slab, caches: inout ConvolutionCaches) throws(Failure) -> Tensor {
        let shape = latents.shape
        let condition = LatentChunk(
            rows: latents.reshaped([shape[0] * shape[1] * shape[2], shape[3]]), frames: shape[0], height: shape[1],
            width: shape[2])
        let input = backend.converted(latents, to: dtype).slices
        let margins = slab.margins
        var x = try inputConvolution(count: input.count, margins: margins, caches: &caches, backend: backend) {
            input[$0]
        }
        try slab.complete(&x)
        for stage in stages {
            for resnet in stage.resnets {
                try resnet(&x, latents: condition, slab: slab, caches: &caches, backend: backend)
            }
            if let upsampler = stage.upsampler { x = try upsampler(x, slab: slab, backend: backend) }
        }
        let norm = try outputNorm.prepared(x, latents: condition, slab: slab, backend: backend)
        let pixels = try outputConvolution(count: x.count, margins: margins, caches: &caches, backend: backend) {
            norm.apply(to: x[$0], index: $0, backend: backend)
        }
        return backend.converted(Tensor.stacked(pixels.map { slab.own($0) }), to: .float32)
    }
}
