import Checkpoint

/// Every key of `AutoencoderKLCogVideoX`, encoder and decoder (reference: diffusers' `autoencoder_kl_cogvideox.py`).
enum AutoencoderWeights {
    static func expected(_ config: AutoencoderKLConfig) -> ExpectedWeights {
        var expected = ExpectedWeights()
        expectEncoder(&expected, config)
        expectDecoder(&expected, config)
        return expected
    }

    private static func expectEncoder(_ expected: inout ExpectedWeights, _ config: AutoencoderKLConfig) {
        let channels = config.blockOutChannels
        let deepest = channels[channels.count - 1]
        CausalConvolution.expect(&expected, "encoder.conv_in", inputs: config.inChannels, outputs: channels[0])
        for (level, outputs) in channels.enumerated() {
            var inputs = level == 0 ? channels[0] : channels[level - 1]
            for index in 0..<config.layersPerBlock {
                expectEncoderResnet(
                    &expected, "encoder.down_blocks.\(level).resnets.\(index)", inputs: inputs, outputs: outputs)
                inputs = outputs
            }
            if level < channels.count - 1 {
                expected.convolution(
                    "encoder.down_blocks.\(level).downsamplers.0.conv", inputs: outputs, outputs: outputs,
                    kernel: [3, 3])
            }
        }
        for index in 0..<2 {
            expectEncoderResnet(
                &expected, "encoder.mid_block.resnets.\(index)", inputs: deepest, outputs: deepest)
        }
        expected.norm("encoder.norm_out", width: deepest)
        CausalConvolution.expect(
            &expected, "encoder.conv_out", inputs: deepest, outputs: 2 * config.latentChannels)
    }

    private static func expectEncoderResnet(
        _ expected: inout ExpectedWeights, _ name: String, inputs: Int, outputs: Int
    ) {
        expected.norm("\(name).norm1", width: inputs)
        expected.norm("\(name).norm2", width: outputs)
        DecoderResnet.expectConvolutions(&expected, name, inputs: inputs, outputs: outputs)
    }

    private static func expectDecoder(_ expected: inout ExpectedWeights, _ config: AutoencoderKLConfig) {
        let plan = DecoderPlan(config)
        let latent = config.latentChannels
        CausalConvolution.expect(&expected, "decoder.conv_in", inputs: latent, outputs: plan.channels[0])
        for resnet in plan.resnets {
            DecoderResnet.expect(
                &expected, resnet.name, inputs: resnet.inputs, outputs: resnet.outputs, latentChannels: latent)
        }
        for upsampler in plan.upsamplers {
            expected.convolution(
                upsampler.name, inputs: upsampler.channels, outputs: upsampler.channels, kernel: [3, 3])
        }
        SpatialNorm.expect(&expected, "decoder.norm_out", channels: plan.lastChannels, latentChannels: latent)
        CausalConvolution.expect(
            &expected, "decoder.conv_out", inputs: plan.lastChannels, outputs: config.outChannels)
    }
}
