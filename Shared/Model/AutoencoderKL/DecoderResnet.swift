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

    /// T frames `[H, W, inputs]` become T frames `[H, W, outputs]`; each is let go as soon as nothing reads it any more.
    ///
    /// The shortcut is projected while the first convolution reads its frames: what waits for the second one is then
    /// as narrow as the result.
    func callAsFunction(
        _ frames: inout [Tensor], latents: LatentChunk, caches: inout ConvolutionCaches, backend: any Backend
    ) throws(Failure) {
        let count = frames.count, gone = Tensor(uninitialized: [0])
        let first = norm1.prepared(frames, latents: latents, backend: backend)
        var hidden = try conv1(count: count, caches: &caches, backend: backend) { index in
            let frame = frames[index]
            if let shortcut { frames[index] = projected(frame, shortcut, backend: backend) }
            return first.apply(to: frame, index: index, backend: backend)
        }
        let second = norm2.prepared(hidden, latents: latents, backend: backend)
        let results = try conv2(
            count: count, caches: &caches, backend: backend,
            added: { range in
                defer { for index in range { frames[index] = gone } }
                return Array(frames[range])
            },
            frame: { index in
                defer { hidden[index] = gone }
                return second.apply(to: hidden[index], index: index, backend: backend)
            })
        frames = results
    }

    private func projected(_ frame: Tensor, _ shortcut: any LinearWeights, backend: any Backend) -> Tensor {
        let (height, width) = (frame.shape[0], frame.shape[1])
        let rows = frame.reshaped([height * width, shortcut.inputs])
        return backend.linear(rows, shortcut, activation: .none).reshaped([height, width, shortcut.outputs])
    }
}
