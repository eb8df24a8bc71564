import Checkpoint
import Compute
import Failure
import Synchronization
import Tensor

#if canImport(Glibc)
import Glibc
#elseif canImport(Musl)
import Musl
#endif

/// What a timestep does to the network: the time embedding and every modulation vector that follows from it.
///
/// These depend on the timestep alone, so the vectors of a whole schedule are made at once. The modulation layers,
/// a seventh of CogVideoX-5b's parameters, are read from the mapped file for that and never packed for keeps.
/// Works in float32 whatever the working dtype.
final class TimestepConditioning: Sendable {
    private let config: Transformer3DConfig
    private let weights: WeightMap
    private let backend: any Backend
    private let adapters: AdapterStack
    private let latest = Mutex<ScheduleModulations?>(nil)

    /// The offset that diffusers passes to CogVideoX1.5-5B-I2V for every request.
    private static let offset: Float = 2

    static func expect(_ expected: inout ExpectedWeights, config: Transformer3DConfig) {
        let width = config.timeEmbedDim
        expected.linear("time_embedding.linear_1", inputs: config.innerDim, outputs: width)
        expected.linear("time_embedding.linear_2", inputs: width, outputs: width)
        if let ofs = config.ofsEmbedDim {
            expected.linear("ofs_embedding.linear_1", inputs: ofs, outputs: ofs)
            expected.linear("ofs_embedding.linear_2", inputs: ofs, outputs: ofs)
        }
        for index in 0..<config.numLayers {
            for norm in ["norm1", "norm2"] {
                expected.linear(
                    "transformer_blocks.\(index).\(norm).linear", inputs: width, outputs: 6 * config.innerDim)
            }
        }
        expected.linear("norm_out.linear", inputs: width, outputs: 2 * config.innerDim)
    }

    init(config: Transformer3DConfig, weights: WeightMap, backend: any Backend, adapters: AdapterStack = .none) {
        self.adapters = adapters
        self.config = config
        self.weights = weights
        self.backend = backend
    }

    /// The modulation vectors of a schedule; those of the latest schedule are kept.
    func modulations(timesteps: [Int]) throws(Failure) -> ScheduleModulations {
        if let known = latest.withLock({ $0 }), known.timesteps == timesteps { return known }
        let loader = loader
        let embedding = backend.silu(try timeEmbedding(timesteps, loader: loader))
        var blocks: [(Tensor, Tensor)] = []
        for index in 0..<config.numLayers {
            let prefix = "transformer_blocks.\(index)"
            blocks.append(
                (
                    backend.linear(embedding, try loader.linear("\(prefix).norm1.linear"), activation: .none),
                    backend.linear(embedding, try loader.linear("\(prefix).norm2.linear"), activation: .none)
                ))
        }
        let output = backend.linear(embedding, try loader.linear("norm_out.linear"), activation: .none)
        let made = ScheduleModulations(timesteps: timesteps, blocks: blocks, output: output, width: config.innerDim)
        latest.withLock { $0 = made }
        return made
    }

    private var loader: LayerLoader {
        LayerLoader(weights: weights, backend: backend, dtype: .float32, adapters: adapters)
    }

    /// The layers of which the modulations of a block come.
    static func layers(ofBlock prefix: String) -> [String] { ["\(prefix).norm1.", "\(prefix).norm2."] }

    /// Those of the model itself.
    static let layers = ["time_embedding.", "ofs_embedding.", "norm_out."]

    /// The time embedding before its SiLU, `[timesteps.count, timeEmbedDim]` float32.
    func embeddings(timesteps: [Int]) throws(Failure) -> Tensor {
        try timeEmbedding(timesteps, loader: loader)
    }

    /// `[timesteps.count, timeEmbedDim]`
    private func timeEmbedding(_ timesteps: [Int], loader: LayerLoader) throws(Failure) -> Tensor {
        let sinusoids = Self.sinusoids(
            timesteps.map { Float($0) }, width: config.innerDim, flipped: config.flipSinToCos,
            shift: Float(config.freqShift))
        var result = try perceptron("time_embedding", sinusoids, loader: loader)
        guard let width = config.ofsEmbedDim else { return result }
        let offset = Self.sinusoids(
            timesteps.map { _ in Self.offset }, width: width, flipped: config.flipSinToCos,
            shift: Float(config.freqShift))
        backend.addGated(&result, try perceptron("ofs_embedding", offset, loader: loader), gate: nil)
        return result
    }

    private func perceptron(_ name: String, _ x: Tensor, loader: LayerLoader) throws(Failure) -> Tensor {
        let hidden = backend.linear(x, try loader.linear("\(name).linear_1"), activation: .silu)
        return backend.linear(hidden, try loader.linear("\(name).linear_2"), activation: .none)
    }

    /// `get_timestep_embedding`: sines and cosines of `value · exp(−ln(10000)·i/(half − shift))`, cosines first when
    /// flipped.
    static func sinusoids(_ values: [Float], width: Int, flipped: Bool, shift: Float) -> Tensor {
        let half = width / 2
        let frequencies = (0..<half).map { exp(-Float(log(10_000.0)) * Float($0) / (Float(half) - shift)) }
        var result: [Float] = []
        result.reserveCapacity(values.count * width)
        for value in values {
            let angles = frequencies.map { value * $0 }
            result += flipped ? angles.map { cos($0) } : angles.map { sin($0) }
            result += flipped ? angles.map { sin($0) } : angles.map { cos($0) }
        }
        return Tensor(result, shape: [values.count, width])
    }
}
