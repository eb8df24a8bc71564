import Checkpoint
import Compute
import DemoModel
import Model
import Tensor

/// The shapes worth watching: CogVideoX-2b's products, attention and convolutions, and the demo model whole.
struct BenchCases {
    let backend: CPUBackend
    private var random = SplitMix(state: 42)

    init(backend: CPUBackend) { self.backend = backend }

    func all() throws -> [BenchCase] {
        var generator = self
        var cases: [BenchCase] = []
        for dtype in [DType.float32, .bfloat16] {
            for (inputs, outputs) in [(1920, 1920), (1920, 7680), (7680, 1920)] {
                cases.append(generator.product(rows: 2914, inputs: inputs, outputs: outputs, dtype))
            }
            cases.append(generator.attention(heads: 30, tokens: 1500, size: 64, dtype))
            cases.append(generator.convolution(frames: 4, height: 60, width: 90, inputs: 256, outputs: 256, dtype))
        }
        let folder = try ModelFolder(path: try DemoModel.path())
        for dtype in [DType.float32, .bfloat16] {
            cases.append(try generator.denoise(folder, dtype))
            cases.append(try generator.decode(folder, dtype))
        }
        return cases
    }

    private mutating func tensor(_ shape: [Int], _ dtype: DType = .float32) -> Tensor {
        let values = (0..<shape.reduce(1, *)).map { _ in random.next() }
        return Tensor(values, shape: shape).converted(to: dtype)
    }

    private mutating func product(rows: Int, inputs: Int, outputs: Int, _ dtype: DType) -> BenchCase {
        let x = tensor([rows, inputs], dtype)
        let weights = backend.linearWeights(tensor([outputs, inputs], dtype), bias: tensor([outputs]), dtype: dtype)
        return BenchCase(
            name: "gemm \(dtype) \(rows) \(inputs) \(outputs)",
            operations: 2 * Double(rows) * Double(inputs) * Double(outputs)
        ) { [backend] in _ = backend.linear(x, weights, activation: .none) }
    }

    private mutating func attention(heads: Int, tokens: Int, size: Int, _ dtype: DType) -> BenchCase {
        let parts = (0..<3).map { _ in tensor([tokens, heads * size], dtype) }
        return BenchCase(
            name: "attention \(dtype) \(heads) \(tokens) \(size)",
            operations: 4 * Double(heads) * Double(tokens) * Double(tokens) * Double(size)
        ) { [backend] in
            _ = backend.attention(
                parts[0], parts[1], parts[2], heads: heads, scale: 1 / Float(size).squareRoot(), bias: nil)
        }
    }

    private mutating func convolution(
        frames: Int, height: Int, width: Int, inputs: Int, outputs: Int, _ dtype: DType
    ) -> BenchCase {
        let x = tensor([frames + 2, height, width, inputs], dtype)
        let weights = backend.convolutionWeights(
            tensor([outputs, inputs, 3, 3, 3], dtype), bias: tensor([outputs]), dtype: dtype)
        return BenchCase(
            name: "conv \(dtype) \(frames) \(height) \(width) \(inputs) \(outputs)",
            operations: 54 * Double(frames * height * width) * Double(inputs * outputs)
        ) { [backend] in _ = backend.convolution(x.slices, weights, added: nil) }
    }

    /// One guided forward of the transformer at the model's native size.
    private mutating func denoise(_ folder: ModelFolder, _ dtype: DType) throws -> BenchCase {
        let config = folder.transformer
        let frames = (config.sampleFrames - 1) / config.temporalCompressionRatio + 1
        let transformer = try Transformer3D(folder: folder, backend: backend, dtype: dtype)
        let prompts = (0..<2).map { _ in tensor([config.maxTextSeqLength, config.textEmbedDim]) }
        let session = try transformer.session(
            frames: frames, height: config.sampleHeight, width: config.sampleWidth, promptEmbeddings: prompts,
            timesteps: [500])
        let latents = tensor([frames, config.inChannels, config.sampleHeight, config.sampleWidth])
        return BenchCase(name: "denoise \(dtype) \(folder.path)", operations: 0) {
            _ = try session.predict(latents: latents, timestep: 500)
        }
    }

    /// The native clip through the VAE decoder.
    private mutating func decode(_ folder: ModelFolder, _ dtype: DType) throws -> BenchCase {
        let config = folder.transformer
        let frames = (config.sampleFrames - 1) / config.temporalCompressionRatio + 1
        let decoder = try AutoencoderKLDecoder(folder: folder, backend: backend, dtype: dtype)
        let latents = tensor([frames, folder.vae.latentChannels, config.sampleHeight, config.sampleWidth])
        return BenchCase(name: "decode \(dtype) \(folder.path)", operations: 0) {
            try decoder.decode(latents: latents) { _ in }
        }
    }
}

/// SplitMix64: fixed inputs, quickly made.
struct SplitMix {
    var state: UInt64

    /// A value in [−1, 1).
    mutating func next() -> Float {
        state &+= 0x9e37_79b9_7f4a_7c15
        var z = state
        z = (z ^ (z >> 30)) &* 0xbf58_476d_1ce4_e5b9
        z = (z ^ (z >> 27)) &* 0x94d0_49bb_1331_11eb
        return Float(Int32(truncatingIfNeeded: (z ^ (z >> 31)) >> 32)) / 2_147_483_648
    }
}
