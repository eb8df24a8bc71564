package import Checkpoint

/// What decoding holds at its peak beside the weights, for one frame size (docs/performance.md).
package struct DecoderMemory: Sendable, Hashable {
    /// Activations of the fullest moment and scratch, in bytes.
    package let working: Int
    /// What every chunk hands on to the next, in bytes; it may wait in a file.
    package let caches: Int

    /// Blocks that the backend keeps for reuse, and scratch.
    private static let overhead = 512 << 20

    /// For latents of `height` × `width` and activations of `elementBytes`, for each of `members` that share the rows.
    ///
    /// The fullest moment is the first block of the last level: its input goes as its hidden and its projected frames
    /// come, and three normalised input frames stand before the convolution.
    package init(_ config: AutoencoderKLConfig, height: Int, width: Int, elementBytes: Int, members: Int = 1) {
        let slab = SlabPlan(height: height, members: members)
        let rows = slab.largest, margins = slab.count > 1 ? 2 * SlabPlan.margin : 0
        let plan = DecoderPlan(config)
        var caches = 0
        for resnet in plan.resnets {
            let scale = 1 << (resnet.level ?? 0)
            caches += 2 * (rows * scale + margins) * width * scale * (resnet.inputs + resnet.outputs)
        }
        let scale = config.spatialCompressionRatio, pixels = (rows * scale + margins) * width * scale
        caches += 2 * (pixels * plan.lastChannels + (rows + margins) * width * config.latentChannels)
        self.caches = caches * elementBytes
        // Three latent frames, in the first chunk of an odd count.
        let frames = 1 + 2 * config.temporalCompressionRatio
        let last = plan.resnets.first { $0.level == plan.channels.count - 1 }
        let inputs = last?.inputs ?? plan.lastChannels, outputs = last?.outputs ?? plan.lastChannels
        working = pixels * (frames * max(inputs, 2 * outputs) + 3 * inputs) * elementBytes + Self.overhead
    }
}
