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
        let plan = EncoderPlan(config)
        CausalConvolution.expect(&expected, "encoder.conv_in", inputs: config.inChannels, outputs: plan.firstChannels)
        for resnet in plan.resnets { CausalResnet.expect(&expected, resnet, latentChannels: nil) }
        for downsampler in plan.downsamplers {
            expected.convolution(
                downsampler.name, inputs: downsampler.channels, outputs: downsampler.channels, kernel: [3, 3])
        }
        ChunkNorm.expect(&expected, "encoder.norm_out", channels: plan.lastChannels, latentChannels: nil)
        CausalConvolution.expect(
            &expected, "encoder.conv_out", inputs: plan.lastChannels, outputs: 2 * config.latentChannels)
    }

    private static func expectDecoder(_ expected: inout ExpectedWeights, _ config: AutoencoderKLConfig) {
        let plan = DecoderPlan(config)
        let latent = config.latentChannels
        CausalConvolution.expect(&expected, "decoder.conv_in", inputs: latent, outputs: plan.channels[0])
        for resnet in plan.resnets { CausalResnet.expect(&expected, resnet, latentChannels: latent) }
        for upsampler in plan.upsamplers {
            expected.convolution(
                upsampler.name, inputs: upsampler.channels, outputs: upsampler.channels, kernel: [3, 3])
        }
        ChunkNorm.expect(&expected, "decoder.norm_out", channels: plan.lastChannels, latentChannels: latent)
        CausalConvolution.expect(
            &expected, "decoder.conv_out", inputs: plan.lastChannels, outputs: config.outChannels)
    }
}
