import Checkpoint

/// A resnet of the autoencoder: its checkpoint name and widths.
struct ResnetPlan {
    let name: String
    let inputs: Int
    let outputs: Int
    /// The level after whose resnets a resampler may follow; nil in the middle block.
    let level: Int?
}

/// The decoder's layers in the order in which they run, with their checkpoint names and widths.
struct DecoderPlan {
    struct Upsampler {
        let name: String
        let level: Int
        let channels: Int
        /// Whether it doubles the frame count as well as height and width.
        let doublesTime: Bool
    }

    /// Channels of each level, deepest first.
    let channels: [Int]
    let resnets: [ResnetPlan]
    let upsamplers: [Upsampler]

    var lastChannels: Int { channels[channels.count - 1] }

    init(_ config: AutoencoderKLConfig) {
        let channels = Array(config.blockOutChannels.reversed())
        self.channels = channels
        var inputs = channels[0]
        var resnets = (0..<2).map { index in
            ResnetPlan(
                name: "decoder.mid_block.resnets.\(index)", inputs: channels[0], outputs: channels[0], level: nil)
        }
        var upsamplers: [Upsampler] = []
        for (level, outputs) in channels.enumerated() {
            for index in 0...config.layersPerBlock {
                resnets.append(
                    ResnetPlan(
                        name: "decoder.up_blocks.\(level).resnets.\(index)", inputs: inputs, outputs: outputs,
                        level: level))
                inputs = outputs
            }
            if level < channels.count - 1 {
                upsamplers.append(
                    Upsampler(
                        name: "decoder.up_blocks.\(level).upsamplers.0.conv", level: level, channels: outputs,
                        doublesTime: level < config.temporalLevels))
            }
        }
        self.resnets = resnets
        self.upsamplers = upsamplers
    }
}
