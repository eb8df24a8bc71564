import Checkpoint
import Compute
import Failure
import Tensor

/// Two spatial norms and causal convolutions with a residual (`CogVideoXResnetBlock3D` with a spatial norm).
struct DecoderResnet: Sendable {
    private let norm1: SpatialNorm
    private let conv1: CausalConvolution
    private let norm2: SpatialNorm
    private let conv2: CausalConvolution
    private let shortcut: (any LinearWeights)?

    static func expect(
        _ expected: inout ExpectedWeights, _ name: String, inputs: Int, outputs: Int, latentChannels: Int
    ) {
        SpatialNorm.expect(&expected, "\(name).norm1", channels: inputs, latentChannels: latentChannels)
        SpatialNorm.expect(&expected, "\(name).norm2", channels: outputs, latentChannels: latentChannels)
        expectConvolutions(&expected, name, inputs: inputs, outputs: outputs)
    }

    /// The part that the encoder's blocks have too.
    static func expectConvolutions(_ expected: inout ExpectedWeights, _ name: String, inputs: Int, outputs: Int) {
        CausalConvolution.expect(&expected, "\(name).conv1", inputs: inputs, outputs: outputs)
        CausalConvolution.expect(&expected, "\(name).conv2", inputs: outputs, outputs: outputs)
        if inputs != outputs {
            expected.convolution("\(name).conv_shortcut", inputs: inputs, outputs: outputs, kernel: [1, 1, 1])
        }
    }

    init(_ loader: LayerLoader, _ plan: DecoderPlan.Resnet, groups: Int) throws(Failure) {
        norm1 = try SpatialNorm(loader, "\(plan.name).norm1", groups: groups)
        conv1 = try CausalConvolution(loader, "\(plan.name).conv1")
        norm2 = try SpatialNorm(loader, "\(plan.name).norm2", groups: groups)
        conv2 = try CausalConvolution(loader, "\(plan.name).conv2")
        shortcut = plan.inputs == plan.outputs ? nil : try loader.flattenedLinear("\(plan.name).conv_shortcut")
    }

    /// `[T, H, W, inputs]` → `[T, H, W, outputs]`
    func callAsFunction(
        _ x: Tensor, latents: LatentChunk, caches: inout ConvolutionCaches, backend: any Backend
    ) -> Tensor {
        let hidden = conv1(norm1(x, latents: latents, backend: backend), caches: &caches, backend: backend)
        return conv2(
            norm2(hidden, latents: latents, backend: backend), residual: identity(x, backend: backend),
            caches: &caches, backend: backend)
    }

    private func identity(_ x: Tensor, backend: any Backend) -> Tensor {
        guard let shortcut else { return x }
        let rows = x.reshaped([x.shape[0] * x.shape[1] * x.shape[2], x.shape[3]])
        return backend.linear(rows, shortcut, activation: .none).reshaped(Array(x.shape[..<3]) + [shortcut.outputs])
    }
}
