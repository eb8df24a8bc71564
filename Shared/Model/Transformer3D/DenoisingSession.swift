import Checkpoint
import Compute
package import Failure
package import Tensor

/// One job on a transformer: geometry, positions, text tokens and modulation vectors, prepared once.
package struct DenoisingSession: Sendable {
    package let geometry: LatentGeometry
    private let transformer: Transformer3D
    private let text: [Tensor]
    private let modulations: ScheduleModulations
    private let rotary: RotaryTables?
    private let positions: Tensor?
    /// `[frames, C, height, width]`: channels that follow those of the latents.
    private let condition: Tensor?

    init(
        transformer: Transformer3D, geometry: LatentGeometry, text: [Tensor], modulations: ScheduleModulations,
        condition: Tensor?
    ) {
        self.condition = condition?.converted(to: .float32)
        self.transformer = transformer
        self.geometry = geometry
        self.text = text
        self.modulations = modulations
        rotary =
            transformer.config.useRotaryPositionalEmbeddings
            ? RotaryTables(config: transformer.config, geometry: geometry) : nil
        positions = transformer.patchEmbedding.videoPositions(geometry, backend: transformer.backend)
    }

    var backend: any Backend { transformer.backend }

    /// How many transformer blocks a prediction runs, for progress.
    package var blockCount: Int { transformer.blocks.count }

    /// A step cache for one pass over the timesteps of this session, in their order. Fails with the codes of the
    /// checkpoint's weights, from which TeaCache takes the time embedding.
    package func stepCache(_ cache: StepCache) throws(Failure) -> StepCacheState {
        let timesteps = modulations.timesteps
        let plan = try cache.plan(timesteps: timesteps) { () throws(Failure) in
            try transformer.conditioning.embeddings(timesteps: timesteps).slices.map { $0.floats() }
        }
        return StepCacheState(cache: cache, plan: plan, stepCount: timesteps.count)
    }

    /// The network's output (v for the released checkpoints) for latents at a timestep, one for each prompt.
    ///
    /// `latents` are `[frames, channels, height, width]`, floating point, where channels and those of the condition
    /// are what the model reads; results are
    /// `[frames, outChannels, height, width]` float32. `blockDone` is told (blocks done, blocks) and may throw to stop.
    /// Fails with `latents_misshapen`, `timestep_unknown` and `numeric_fault`.
    package func predict(
        latents: Tensor, timestep: Int,
        blockDone: (Int, Int) throws(Failure) -> Void = { (_, _) throws(Failure) in }
    ) throws(Failure) -> [Tensor] {
        var cache = StepCacheState.off
        return try predict(latents: latents, timestep: timestep, cache: &cache, blockDone: blockDone)
    }

    /// As `predict` without a cache, leaving out what `cache` allows; the same cache goes through all steps of a job.
    package func predict(
        latents: Tensor, timestep: Int, cache: inout StepCacheState,
        blockDone: (Int, Int) throws(Failure) -> Void = { (_, _) throws(Failure) in }
    ) throws(Failure) -> [Tensor] {
        let row = try check(latents, timestep: timestep)
        let tokens = transformer.patchEmbedding.video(
            conditioned(latents), geometry: geometry, positions: positions, backend: backend)
        var stream = JointStream(text: text, video: tokens)
        try runBlocks(&stream, row: row, cache: &cache, blockDone: blockDone)
        var predictions: [Tensor] = []
        for prompt in text.indices {
            let prediction = transformer.head(
                stream.rows.rows(stream.videoRows(prompt)), modulation: modulations.final(row: row), geometry: geometry,
                backend: backend)
            try prediction.requireFinite("The prediction at timestep \(timestep)", field: "latents")
            predictions.append(prediction)
        }
        return predictions
    }

    /// One block of the step `row`.
    func run(
        _ index: Int, _ stream: inout JointStream, row: Int, reuse: inout AttentionReuse, blockDone: BlockReport
    ) throws(Failure) {
        transformer.blocks[index](
            &stream, modulation: modulations.block(index, row: row), rotary: rotary, isLast: index == blockCount - 1,
            reuse: &reuse, backend: backend)
        try blockDone(index + 1, blockCount)
    }

    /// Latents with the condition's channels after their own, frame by frame.
    private func conditioned(_ latents: Tensor) -> Tensor {
        guard let condition else { return latents }
        let frames = zip(latents.converted(to: .float32).slices, condition.slices).flatMap { [$0, $1] }
        return Tensor.concatenated(frames)
            .reshaped([geometry.frames, transformer.config.inChannels, geometry.height, geometry.width])
    }

    /// The row of the timestep in the schedule.
    private func check(_ latents: Tensor, timestep: Int) throws(Failure) -> Int {
        let channels = transformer.config.inChannels - (condition?.shape[1] ?? 0)
        let expected = [geometry.frames, channels, geometry.height, geometry.width]
        guard latents.dtype.isFloatingPoint, latents.shape == expected else {
            throw Failure(
                "latents_misshapen",
                "Latents are \(latents.shape) \(latents.dtype), but the model reads floating point \(expected).",
                field: "latents")
        }
        guard let row = modulations.timesteps.firstIndex(of: timestep) else {
            throw Failure(
                "timestep_unknown", "Timestep \(timestep) is not in the schedule of this session.", field: "timestep")
        }
        try latents.requireFinite("The latent tensor", field: "latents")
        return row
    }
}
