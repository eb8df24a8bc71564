import Checkpoint

/// The encoder's layers in the order in which they run, with their checkpoint names and widths.
struct EncoderPlan {
    struct Downsampler {
        let name: String
        let level: Int
        let channels: Int
        /// Whether it halves the frame count as well as height and width.
        let halvesTime: Bool
    }

    let firstChannels: Int
    let lastChannels: Int
    let resnets: [ResnetPlan]
    let downsamplers: [Downsampler]

    init(_ config: AutoencoderKLConfig) {
        let channels = config.blockOutChannels, last = channels[channels.count - 1]
        var inputs = channels[0]
        var resnets: [ResnetPlan] = []
        var downsamplers: [Downsampler] = []
        for (level, outputs) in channels.enumerated() {
            for index in 0..<config.layersPerBlock {
                resnets.append(
                    ResnetPlan(
                        name: "encoder.down_blocks.\(level).resnets.\(index)", inputs: inputs, outputs: outputs,
                        level: level))
                inputs = outputs
            }
            if level < channels.count - 1 {
                downsamplers.append(
                    Downsampler(
                        name: "encoder.down_blocks.\(level).downsamplers.0.conv", level: level, channels: outputs,
                        halvesTime: level < config.temporalLevels))
            }
        }
        resnets += (0..<2).map { index in
            ResnetPlan(name: "encoder.mid_block.resnets.\(index)", inputs: last, outputs: last, level: nil)
        }
        firstChannels = channels[0]
        lastChannels = last
        self.resnets = resnets
        self.downsamplers = downsamplers
    }
}
