import Checkpoint
import Compute
import DemoModel
import Failure
import Foundation
import Model
import Tensor

/// One thing to time. Its name is a line of words that this program and the peer's both understand.
struct BenchCase: Sendable {
    let name: String
    /// Multiplications and additions that one run must do; 0 where a rate would say nothing.
    let operations: Double
    /// Takes so long, or so much memory, that one run of each side must do, one side after the other.
    var isHeavy = false
    /// Timed after a run that does not count: a job does the same fifty times. Decoding at size happens once a job.
    var isWarmed: Bool { !isHeavy || !name.hasPrefix("vae") }
    /// What the peer runs, nil where it has nothing alike.
    var peer: String?

    init(_ name: String, _ operations: Double, isHeavy: Bool = false, peer: Bool = true) {
        self.name = name
        self.operations = operations
        self.isHeavy = isHeavy
        self.peer = peer ? name : nil
    }

    /// Every case, in the order of the table.
    static func all() -> [BenchCase] {
        var cases: [BenchCase] = []
        for dtype in ["float32", "bfloat16"] {
            // The machine's peak is the best that anybody reaches in these.
            for (m, k, n) in [(4096, 4096, 4096), (5828, 1920, 5760), (5828, 1920, 7680), (5828, 7680, 1920)] {
                cases.append(BenchCase("gemm \(dtype) \(m) \(k) \(n)", 2 * Double(m * k) * Double(n)))
            }
        }
        cases.append(BenchCase("gemm int8 5828 1920 7680", 2 * 5828 * 1920 * 7680, peer: false))
        for dtype in ["float32", "bfloat16", "int8"] {
            for tokens in [1500, 4096, 17776] {
                cases.append(
                    BenchCase(
                        "attention \(dtype) 30 \(tokens) 64", 4 * 1920 * Double(tokens * tokens),
                        isHeavy: tokens > 10_000, peer: dtype != "int8"))
            }
            guard dtype != "int8" else { continue }
            cases.append(
                BenchCase("conv \(dtype) 4 60 90 256 256", 54 * Double(4 * 60 * 90) * 65536))
        }
        for (kind, channels) in [("2b", 1920.0), ("5b", 3072.0)] {
            for (frames, height, width) in [(2, 32, 48), (7, 32, 48), (13, 60, 90)] {
                let isHeavy = frames == 13
                for dtype in isHeavy ? ["bfloat16", "int8"] : ["float32", "bfloat16", "int8"] {
                    cases.append(
                        BenchCase(
                            "blocks \(dtype) \(kind) \(frames) \(height) \(width)",
                            operations(width: channels, video: Double(frames * height * width / 4)), isHeavy: isHeavy,
                            peer: dtype != "int8"))
                }
            }
        }
        for (kind, frames, height, width) in [
            ("vae", 2.0, 30.0, 30.0), ("vae", 2, 60, 90), ("vae", 13, 60, 90), ("vae-filed", 13, 60, 90),
        ] {
            let name = "\(kind) bfloat16 2b \(Int(frames)) \(Int(height)) \(Int(width))"
            cases.append(
                BenchCase(
                    name, decoding(frames: frames, height: height, width: width), isHeavy: true,
                    peer: frames == 2))
        }
        let layer = 4.0 * 4096 * 4096 + 3 * 4096 * 10240
        cases.append(BenchCase("t5 bfloat16 2b 2 226", 2 * 452 * Double(BenchModel.layers) * layer))
        // Merging rank 128 into the attention projections of both layers, and the base's bits back.
        for dtype in ["float32", "bfloat16", "int8"] {
            cases.append(
                BenchCase(
                    "adapters \(dtype) 5b 128", 2 * 128 * 3072 * 3072 * 4 * Double(BenchModel.layers), isHeavy: true,
                    peer: false))
        }
        for dtype in ["float32", "bfloat16"] {
            cases.append(BenchCase("denoise \(dtype) demo", 0))
            cases.append(BenchCase("decode \(dtype) demo", 0))
        }
        return cases
    }

    /// The products and the attention of both layers for two prompts. The text rows that nobody reads after the last
    /// block are not counted, though the peer computes them.
    private static func operations(width: Double, video: Double) -> Double {
        let all = video + 226
        let first = 24 * all * width * width + 4 * all * all * width
        let last = (6 * all + 18 * video) * width * width + 4 * video * all * width
        return 2 * (first + last)
    }

    /// The convolutions of the released decoder, in the form with the fewest operations: enlargements folded, frames
    /// that repeat convolved once.
    private static func decoding(frames: Double, height: Double, width: Double) -> Double {
        func causal(_ pixels: Double, _ inputs: Double, _ outputs: Double) -> Double { 54 * pixels * inputs * outputs }
        /// Four taps for each output pixel.
        func enlarged(_ pixels: Double, _ channels: Double) -> Double { 8 * pixels * channels * channels }
        func doubled(_ frames: Double) -> Double {
            frames.truncatingRemainder(dividingBy: 2) == 1 ? 2 * frames - 1 : 2 * frames
        }
        let area = height * width, half = doubled(frames), all = doubled(half)
        var total = causal(frames * area, 16, 512) + 12 * causal(frames * area, 512, 512)
        total += enlarged(frames * 4 * area, 512) + enlarged(half * 16 * area, 256) + enlarged(all * 64 * area, 256)
        for (inputs, outputs, pixels) in [
            (512.0, 256.0, half * 4 * area), (256, 256, all * 16 * area), (256, 128, all * 64 * area),
        ] {
            total += causal(pixels, inputs, outputs) + 7 * causal(pixels, outputs, outputs)
            if inputs != outputs { total += 2 * pixels * inputs * outputs }
        }
        return total + causal(all * 64 * area, 128, 3)
    }
}

/// Runs cases in this process.
struct BenchRunner {
    private let backend: CPUBackend
    private var random = SplitMix(state: 42)

    init(threads: Int) { backend = CPUBackend(threads: threads) }

    var description: String { backend.description }

    /// The work of a case, ready to be run any number of times.
    mutating func prepared(_ name: String) throws -> () throws -> Void {
        let words = name.split(separator: " ").map(String.init), numbers = words.compactMap { Int($0) }
        let isInt8 = words.count > 1 && words[1] == "int8"
        let dtype: DType = words.count > 1 && words[1] == "float32" ? .float32 : .bfloat16
        switch words.first {
        case "gemm": return product(numbers, dtype, isInt8 ? .int8 : .activation)
        case "attention":
            return attention(
                heads: numbers[0], tokens: numbers[1], size: numbers[2], dtype, isInt8 ? .int8 : .activation)
        case "conv": return convolution(numbers, dtype)
        case "blocks":
            let folder = try BenchModel(words[2] == "5b" ? .large : .small).folder
            return try forward(folder, frames: numbers[0], height: numbers[1], width: numbers[2], dtype, isInt8)
        case "adapters": return try adapters(try BenchModel(.large).folder, rank: numbers[0], dtype, isInt8)
        case "vae", "vae-filed":
            return try decode(
                try BenchModel(.small).folder, numbers[0], numbers[1], numbers[2], dtype,
                cachesInFile: words[0] == "vae-filed")
        case "t5": return try encode(try BenchModel(.small).folder, prompts: numbers[0], length: numbers[1], dtype)
        case "denoise", "decode":
            let folder = try ModelFolder(path: try DemoModel.path()), config = folder.transformer
            let frames = (config.sampleFrames - 1) / config.temporalCompressionRatio + 1
            return words[0] == "denoise"
                ? try forward(
                    folder, frames: frames, height: config.sampleHeight, width: config.sampleWidth, dtype, false)
                : try decode(folder, frames, config.sampleHeight, config.sampleWidth, dtype)
        default: throw Failure("case_unknown", "there is no benchmark \"\(name)\"", field: "case")
        }
    }

    private mutating func tensor(_ shape: [Int], _ dtype: DType = .float32) -> Tensor {
        let values = (0..<shape.reduce(1, *)).map { _ in random.next() }
        return Tensor(values, shape: shape).converted(to: dtype)
    }

    private mutating func product(_ n: [Int], _ dtype: DType, _ precision: ProductPrecision) -> () throws -> Void {
        let x = tensor([n[0], n[1]], dtype)
        let weights = backend.linearWeights(
            tensor([n[2], n[1]], dtype), bias: tensor([n[2]]), dtype: dtype, precision: precision)
        return { [backend] in _ = backend.linear(x, weights, activation: .none) }
    }

    private mutating func attention(
        heads: Int, tokens: Int, size: Int, _ dtype: DType, _ precision: ProductPrecision
    ) -> () throws -> Void {
        let parts = (0..<3).map { _ in tensor([tokens, heads * size], dtype) }
        return { [backend] in
            _ = backend.attention(
                parts[0], parts[1], parts[2], heads: heads, scale: 1 / Float(size).squareRoot(), bias: nil,
                sequences: 1, firstQuery: 0, precision: precision)
        }
    }

    private mutating func convolution(_ n: [Int], _ dtype: DType) -> () throws -> Void {
        let frames = (0..<n[0] + 2).map { _ in tensor([n[1], n[2], n[3]], dtype) }
        let weights = backend.convolutionWeights(
            tensor([n[4], n[3], 3, 3, 3], dtype), bias: tensor([n[4]]), dtype: dtype)
        return { [backend] in _ = backend.convolution(frames, weights, added: nil) }
    }

    /// One guided forward pass.
    private mutating func forward(
        _ folder: ModelFolder, frames: Int, height: Int, width: Int, _ dtype: DType, _ isInt8: Bool
    ) throws -> () throws -> Void {
        let config = folder.transformer
        let transformer = try Transformer3D(
            folder: folder, backend: backend, dtype: dtype, precision: isInt8 ? .int8 : .activation)
        let prompts = (0..<2).map { _ in tensor([config.maxTextSeqLength, config.textEmbedDim]) }
        let session = try transformer.session(
            frames: frames, height: height, width: width, promptEmbeddings: prompts, timesteps: [500])
        let latents = tensor([frames, config.inChannels, height, width])
        return { _ = try session.predict(latents: latents, timestep: 500) }
    }

    /// Switching adapters on and off again.
    private mutating func adapters(
        _ folder: ModelFolder, rank: Int, _ dtype: DType, _ isInt8: Bool
    ) throws -> () throws -> Void {
        let width = folder.transformer.innerDim
        var weights: [String: Tensor] = [:]
        for layer in 0..<BenchModel.layers {
            for name in ["to_q", "to_k", "to_v", "to_out.0"] {
                let prefix = "transformer.transformer_blocks.\(layer).attn1.\(name)"
                weights["\(prefix).lora_A.weight"] = tensor([rank, width], .bfloat16)
                weights["\(prefix).lora_B.weight"] = tensor([width, rank], .bfloat16)
            }
        }
        let path = FileManager.default.temporaryDirectory.appending(path: "zoetrope-bench-adapter.safetensors").path
        try SafetensorsWriter.write(tensors: weights, to: path)
        let stack = AdapterStack([AdapterStack.Entry(try AdapterWeights(path: path), weight: 0.5)])
        let transformer = try Transformer3D(
            folder: folder, backend: backend, dtype: dtype, precision: isInt8 ? .int8 : .activation)
        return {
            var adapted = transformer
            try adapted.adapt(to: stack)
            try adapted.adapt(to: .none)
        }
    }

    private mutating func decode(
        _ folder: ModelFolder, _ frames: Int, _ height: Int, _ width: Int, _ dtype: DType,
        cachesInFile: Bool = false
    ) throws -> () throws -> Void {
        let decoder = try AutoencoderKLDecoder(folder: folder, backend: backend, dtype: dtype)
        let latents = tensor([frames, folder.vae.latentChannels, height, width])
        let directory = cachesInFile ? FileManager.default.temporaryDirectory.path : nil
        return { try decoder.decode(latents: latents, cacheDirectory: directory) { _ in } }
    }

    private mutating func encode(
        _ folder: ModelFolder, prompts: Int, length: Int, _ dtype: DType
    ) throws -> () throws -> Void {
        let encoder = try T5Encoder(folder: folder, backend: backend, dtype: dtype)
        let ids = (0..<length).map { Int32($0 * 7 % 1000 + 3) }
        let sequences = Array(repeating: ids, count: prompts)
        return { _ = try encoder.encode(sequences: sequences) }
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
