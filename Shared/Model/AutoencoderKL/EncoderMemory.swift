package import Checkpoint

/// What encoding holds at its peak beside the weights, for one frame size.
package struct EncoderMemory: Sendable, Hashable {
    /// Activations of the fullest moment and scratch, in bytes.
    package let working: Int
    /// What every chunk hands on to the next, in bytes.
    package let caches: Int

    /// Blocks that the backend keeps for reuse, and scratch.
    private static let overhead = 512 << 20

    /// For frames of `height` × `width` pixels and activations of `elementBytes`.
    ///
    /// The fullest moment is the first block, at full resolution: its input, its hidden frames and three normalised ones.
    package init(_ config: AutoencoderKLConfig, height: Int, width: Int, elementBytes: Int) {
        let plan = EncoderPlan(config)
        var caches = 0
        for resnet in plan.resnets {
            let level = resnet.level ?? config.blockOutChannels.count - 1
            caches += 2 * (height >> level) * (width >> level) * (resnet.inputs + resnet.outputs)
        }
        self.caches = (caches + 2 * height * width * config.inChannels) * elementBytes
        // The first chunk of an odd count has nine frames; one of any other rest has up to fifteen.
        let frames = 1 + 2 * config.temporalCompressionRatio
        working = height * width * (2 * frames + 3) * plan.firstChannels * elementBytes + Self.overhead
    }
}
