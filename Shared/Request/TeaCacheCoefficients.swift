import Checkpoint

/// The polynomials that TeaCache's authors fitted for the released models: from the relative change of the time
/// embedding to that of the output, highest power first.
///
/// They hold for the weights they were fitted on and their finetunes. Outside the range of changes that occur there
/// they mean nothing (of a smaller model they would leave out nearly every step), so no other shape has any.
enum TeaCacheCoefficients {
    static func published(for config: Transformer3DConfig) -> [Double]? {
        switch (config.numAttentionHeads, config.numLayers, config.useRotaryPositionalEmbeddings) {
        case (30, 30, false): cogVideoX2b
        case (48, 42, true) where config.patchSizeT == nil: cogVideoX5b
        case (48, 42, true): config.inChannels == config.outChannels ? cogVideoX15 : cogVideoX15ImageToVideo
        default: nil
        }
    }

    private static let cogVideoX2b = [
        -3.10658903e+01, 2.54732368e+01, -5.92380459e+00, 1.75769064e+00, -3.61568434e-03,
    ]
    /// Of 5b-I2V too.
    private static let cogVideoX5b = [
        -1.53880483e+03, 8.43202495e+02, -1.34363087e+02, 7.97131516e+00, -5.23162339e-02,
    ]
    private static let cogVideoX15 = [
        2.50210439e+02, -1.65061612e+02, 3.57804877e+01, -7.81551492e-01, 3.58559703e-02,
    ]
    private static let cogVideoX15ImageToVideo = [
        1.22842302e+02, -1.04088754e+02, 2.62981677e+01, -3.06009921e-01, 3.71213220e-02,
    ]
}
