package import Checkpoint
package import Compute
package import Failure
package import Tensor

/// The encoder half of CogVideoX's causal video autoencoder (`AutoencoderKLCogVideoX.encode`): pixels to the
/// distribution of their latents.
///
/// Immutable and shared: open one `EncodingRun` a job, or call `encode`.
package final class AutoencoderKLEncoder: Sendable {
    package let config: AutoencoderKLConfig
    /// The dtype of activations; norms take their statistics in float32 regardless.
    package let dtype: DType
    private let backend: any Backend
    private let inputConvolution: CausalConvolution
    /// Each level's resnets with the downsampler that follows them, then the middle block.
    private let stages: [(resnets: [CausalResnet], downsampler: EncoderDownsampler?)]
    private let outputNorm: ChunkNorm
    private let outputConvolution: CausalConvolution

    /// Loads the encoder from `vae/` of a checkpoint for work in `dtype` (float32 or bfloat16).
    ///
    /// The decoder's keys must be there but are not loaded. Fails with `checkpoint_keys_mismatch` and the codes of
    /// `ModelFolder.weights`.
    package init(folder: ModelFolder, backend: any Backend, dtype: DType) throws(Failure) {
        requireWorkingDType(dtype)
        config = folder.vae
        self.dtype = dtype
        self.backend = backend
        let weights = try folder.weights(.vae)
        try weights.check(expected: AutoencoderWeights.expected(config).shapes)
        let loader = LayerLoader(weights: weights, backend: backend, dtype: dtype)
        let groups = config.normNumGroups
        let plan = EncoderPlan(config)
        inputConvolution = try CausalConvolution(loader, "encoder.conv_in")
        var stages: [(resnets: [CausalResnet], downsampler: EncoderDownsampler?)] = []
        for level in config.blockOutChannels.indices.map(Optional.some) + [nil] {
            var resnets: [CausalResnet] = []
            for resnet in plan.resnets where resnet.level == level {
                resnets.append(try CausalResnet(loader, resnet, groups: groups, isConditioned: false))
            }
            var downsampler: EncoderDownsampler?
            for planned in plan.downsamplers where planned.level == level {
                downsampler = try EncoderDownsampler(loader, planned)
            }
            stages.append((resnets, downsampler))
        }
        self.stages = stages
        outputNorm = try ChunkNorm(loader, "encoder.norm_out", groups: groups, isConditioned: false)
        outputConvolution = try CausalConvolution(loader, "encoder.conv_out")
    }

    /// Starts encoding frames `[T, H, W, 3]` float32 in [−1, 1].
    ///
    /// Fails with `frames_misshapen` and `numeric_fault`.
    package func run(frames: Tensor) throws(Failure) -> EncodingRun {
        let scale = config.spatialCompressionRatio
        guard frames.dtype == .float32, frames.shape.count == 4, frames.shape[3] == config.inChannels,
            frames.shape.allSatisfy({ (1...(1 << 17)).contains($0) }),
            frames.shape[1] % scale == 0, frames.shape[2] % scale == 0
        else {
            throw Failure(
                "frames_misshapen",
                "Frames are \(frames.shape) \(frames.dtype), but the encoder reads float32 of shape "
                    + "[frames, height, width, \(config.inChannels)] with height and width divisible by \(scale).",
                field: "frames")
        }
        try frames.requireFinite("The frame tensor", field: "frames")
        return EncodingRun(encoder: self, frames: frames)
    }

    /// Encodes frames `[T, H, W, 3]` float32 in [−1, 1] chunk by chunk; `progress` is told (chunks done, chunks) and may
    /// throw to stop.
    package func encode(
        frames: Tensor, progress: (Int, Int) throws(Failure) -> Void = { (_, _) throws(Failure) in }
    ) throws(Failure) -> LatentDistribution {
        var run = try run(frames: frames)
        while try run.next() { try progress(run.chunksDone, run.chunkCount) }
        return run.distribution
    }

    /// Encodes one chunk `[t, H, W, 3]` float32 → moments `[t', h, w, 2 · latentChannels]` float32.
    func chunk(_ pixels: Tensor, caches: inout ConvolutionCaches) throws(Failure) -> Tensor {
        let input = backend.converted(pixels, to: dtype).slices
        var x = try inputConvolution(count: input.count, margins: .none, caches: &caches, backend: backend) {
            input[$0]
        }
        for stage in stages {
            for resnet in stage.resnets {
                try resnet(&x, latents: nil, slab: .whole, caches: &caches, backend: backend)
            }
            if let downsampler = stage.downsampler { x = downsampler(x, backend: backend) }
        }
        let norm = try outputNorm.prepared(x, latents: nil, slab: .whole, backend: backend)
        let moments = try outputConvolution(count: x.count, margins: .none, caches: &caches, backend: backend) {
            norm.apply(to: x[$0], index: $0, backend: backend)
        }
        return backend.converted(Tensor.stacked(moments), to: .float32)
    }

    /// `[t, h, w, channels]` → `[t, channels, h, w]`.
    func channelsFirst(_ moments: Tensor) -> Tensor { backend.permuted(moments, axes: [0, 3, 1, 2]) }
}
