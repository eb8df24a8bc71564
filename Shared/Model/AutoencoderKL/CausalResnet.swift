import Checkpoint
import Compute
import Failure
import Tensor

/// Two norms and causal convolutions with a residual (`CogVideoXResnetBlock3D` without a time embedding).
struct CausalResnet: Sendable {
    private let norm1: ChunkNorm
    private let conv1: CausalConvolution
    private let norm2: ChunkNorm
    private let conv2: CausalConvolution
    private let shortcut: (any LinearWeights)?

    /// - Parameter latentChannels: of the latents that the norms read; nil in the encoder.
    static func expect(_ expected: inout ExpectedWeights, _ plan: ResnetPlan, latentChannels: Int?) {
        let name = plan.name
        ChunkNorm.expect(&expected, "\(name).norm1", channels: plan.inputs, latentChannels: latentChannels)
        ChunkNorm.expect(&expected, "\(name).norm2", channels: plan.outputs, latentChannels: latentChannels)
        CausalConvolution.expect(&expected, "\(name).conv1", inputs: plan.inputs, outputs: plan.outputs)
        CausalConvolution.expect(&expected, "\(name).conv2", inputs: plan.outputs, outputs: plan.outputs)
        if plan.inputs != plan.outputs {
            expected.convolution(
                "\(name).conv_shortcut", inputs: plan.inputs, outputs: plan.outputs, kernel: [1, 1, 1])
        }
    }

    init(_ loader: LayerLoader, _ plan: ResnetPlan, groups: Int, isConditioned: Bool) throws(Failure) {
        norm1 = try ChunkNorm(loader, "\(plan.name).norm1", groups: groups, isConditioned: isConditioned)
        conv1 = try CausalConvolution(loader, "\(plan.name).conv1")
        norm2 = try ChunkNorm(loader, "\(plan.name).norm2", groups: groups, isConditioned: isConditioned)
        conv2 = try CausalConvolution(loader, "\(plan.name).conv2")
        shortcut = plan.inputs == plan.outputs ? nil : try loader.flattenedLinear("\(plan.name).conv_shortcut")
    }

    /// T frames `[H, W, inputs]` become T frames `[H, W, outputs]`, with the margins of the slab; each is let go as soon as
    /// nothing reads it any more.
    ///
    /// The shortcut is projected while the first convolution reads its frames: what waits for the second one is then
    /// as narrow as the result.
    func callAsFunction(
        _ frames: inout [Tensor], latents: LatentChunk?, slab: Slab, caches: inout ConvolutionCaches,
        backend: any Backend
    ) throws(Failure) {
        let count = frames.count, gone = Tensor(uninitialized: [0])
        let first = try norm1.prepared(frames, latents: latents, slab: slab, backend: backend)
        var hidden = try conv1(count: count, margins: slab.margins, caches: &caches, backend: backend) { index in
            let frame = frames[index]
            if let shortcut { frames[index] = projected(frame, shortcut, backend: backend) }
            return first.apply(to: frame, index: index, backend: backend)
        }
        try slab.complete(&hidden)
        let second = try norm2.prepared(hidden, latents: latents, slab: slab, backend: backend)
        var results = try conv2(
            count: count, margins: slab.margins, caches: &caches, backend: backend,
            added: { range in
                defer { for index in range { frames[index] = gone } }
                return Array(frames[range])
            },
            frame: { index in
                defer { hidden[index] = gone }
                return second.apply(to: hidden[index], index: index, backend: backend)
            })
        try slab.complete(&results)
        frames = results
    }

    private func projected(_ frame: Tensor, _ shortcut: any LinearWeights, backend: any Backend) -> Tensor {
        let (height, width) = (frame.shape[0], frame.shape[1])
        let rows = frame.reshaped([height * width, shortcut.inputs])
        return backend.linear(rows, shortcut, activation: .none).reshaped([height, width, shortcut.outputs])
    }
}
