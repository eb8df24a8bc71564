import Checkpoint
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

    init(transformer: Transformer3D, geometry: LatentGeometry, text: [Tensor], modulations: ScheduleModulations) {
        self.transformer = transformer
        self.geometry = geometry
        self.text = text
        self.modulations = modulations
        rotary =
            transformer.config.useRotaryPositionalEmbeddings
            ? RotaryTables(config: transformer.config, geometry: geometry) : nil
        positions = transformer.patchEmbedding.videoPositions(geometry, backend: transformer.backend)
    }

    /// How many transformer blocks a prediction runs, for progress.
    package var blockCount: Int { transformer.blocks.count }

    /// The network's output (v for the released checkpoints) for latents at a timestep, one for each prompt.
    ///
    /// `latents` are `[frames, inChannels, height, width]`, floating point; results are
    /// `[frames, outChannels, height, width]` float32. `blockDone` is told (blocks done, blocks) and may throw to stop.
    /// Fails with `latents_misshapen`, `timestep_unknown` and `numeric_fault`.
    package func predict(
        latents: Tensor, timestep: Int,
        blockDone: (Int, Int) throws(Failure) -> Void = { (_, _) throws(Failure) in }
    ) throws(Failure) -> [Tensor] {
        let expected = [geometry.frames, transformer.config.inChannels, geometry.height, geometry.width]
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
        let backend = transformer.backend
        let tokens = transformer.patchEmbedding.video(
            latents, geometry: geometry, positions: positions, backend: backend)
        var stream = JointStream(text: text, video: tokens)
        for (index, block) in transformer.blocks.enumerated() {
            block(
                &stream, modulation: modulations.block(index, row: row), rotary: rotary,
                isLast: index == transformer.blocks.count - 1, backend: backend)
            try blockDone(index + 1, transformer.blocks.count)
        }
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
}
