import Checkpoint
import Compute
import Failure
import Tensor

/// Video tokens back to latents: two norms, a projection and the reverse of the patch embedding.
struct OutputHead: Sendable {
    private let finalNorm: NormWeights
    private let modulatedNorm: NormWeights
    private let projection: any LinearWeights
    private let config: Transformer3DConfig

    static func expect(_ expected: inout ExpectedWeights, config: Transformer3DConfig) {
        let affine = config.normElementwiseAffine
        expected.norm("norm_final", width: config.innerDim, affine: affine)
        expected.norm("norm_out.norm", width: config.innerDim, affine: affine)
        let volume = config.patchSize * config.patchSize * (config.patchSizeT ?? 1)
        expected.linear("proj_out", inputs: config.innerDim, outputs: config.outChannels * volume)
    }

    init(_ loader: LayerLoader, config: Transformer3DConfig) throws(Failure) {
        finalNorm = try loader.norm("norm_final", affine: config.normElementwiseAffine)
        modulatedNorm = try loader.norm("norm_out.norm", affine: config.normElementwiseAffine)
        projection = try loader.linear("proj_out")
        self.config = config
    }

    /// Tokens `[tokens, width]` to a prediction `[frames, outChannels, height, width]` in float32.
    func callAsFunction(
        _ tokens: Tensor, modulation: (shift: Tensor, scale: Tensor), geometry: LatentGeometry, backend: any Backend
    ) -> Tensor {
        let epsilon = Float(config.normEps)
        let normal = backend.layerNorm(
            tokens, weight: finalNorm.weight, bias: finalNorm.bias, epsilon: epsilon, scale: nil, shift: nil)
        let modulated = backend.layerNorm(
            normal, weight: modulatedNorm.weight, bias: modulatedNorm.bias, epsilon: epsilon,
            scale: modulation.scale, shift: modulation.shift)
        let patches = backend.converted(backend.linear(modulated, projection, activation: .none), to: .float32)
            .reshaped([
                geometry.gridFrames, geometry.gridHeight, geometry.gridWidth, config.outChannels,
                geometry.patchFrames, geometry.patchSize, geometry.patchSize,
            ])
        return backend.permuted(patches, axes: [0, 4, 3, 1, 5, 2, 6])
            .reshaped([geometry.frames, config.outChannels, geometry.height, geometry.width])
    }
}
