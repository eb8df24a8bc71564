package import Checkpoint
package import Failure
import Glibc
package import Tensor

/// The noise levels of a diffusion process: ᾱ for every training timestep.
///
/// Computed as diffusers' `CogVideoXDDIMScheduler.__init__`: betas, cumulative product, SNR shift
/// ᾱ ← ᾱ/(s + (1−s)ᾱ) after Stable Diffusion 3, then the rescale to zero terminal SNR of arXiv 2305.08891.
package struct NoiseSchedule: Sendable, Hashable {
    /// ᾱ_t for t in `0..<numTrainTimesteps`; near 1 is clean, 0 is pure noise.
    package let alphasCumprod: [Double]
    /// ᾱ beyond the last step: 1, or ᾱ_0 when the scheduler sets `set_alpha_to_one` to false.
    package let finalAlphaCumprod: Double

    /// Builds the table; an unknown beta schedule is `scheduler_unsupported`.
    package init(config: SchedulerConfig) throws(Failure) {
        let betas = try Self.betas(config)
        // Every schedule but scaled_linear is a float32 tensor in diffusers, and all that follows stays in float32.
        let isSingle = config.trainedBetas != nil || config.betaSchedule != "scaled_linear"
        func stored(_ value: Double) -> Double { isSingle ? Double(Float(value)) : value }

        var product = 1.0
        let shift = stored(config.snrShiftScale)
        let complement = stored(1 - config.snrShiftScale)
        var alphas = betas.map { beta in
            product *= stored(1 - beta)
            let alpha = stored(product)
            return stored(alpha / stored(shift + stored(complement * alpha)))
        }
        if config.rescaleBetasZeroSNR, let first = alphas.first?.squareRoot(), let last = alphas.last?.squareRoot() {
            let scale = stored(stored(first) / stored(stored(first) - stored(last)))
            alphas = alphas.map { alpha in
                let root = stored(stored(stored(alpha.squareRoot()) - stored(last)) * scale)
                return stored(root * root)
            }
        }
        alphasCumprod = alphas
        finalAlphaCumprod = config.setAlphaToOne ? 1 : alphas.first ?? 1
    }

    /// β_t for every training timestep.
    private static func betas(_ config: SchedulerConfig) throws(Failure) -> [Double] {
        if let trained = config.trainedBetas { return trained.map { Double(Float($0)) } }
        let count = config.numTrainTimesteps
        switch config.betaSchedule {
        case "scaled_linear":
            return linearSpace(config.betaStart.squareRoot(), config.betaEnd.squareRoot(), count).map { $0 * $0 }
        case "linear":
            return linearSpace(Float(config.betaStart), Float(config.betaEnd), count).map(Double.init)
        case "squaredcos_cap_v2":
            func alphaBar(_ time: Double) -> Double {
                let root = cos((time + 0.008) / 1.008 * Double.pi / 2)
                return root * root
            }
            return (0..<count).map { index in
                let ratio = alphaBar(Double(index + 1) / Double(count)) / alphaBar(Double(index) / Double(count))
                return Double(Float(min(1 - ratio, 0.999)))
            }
        default:
            throw Failure(
                "scheduler_unsupported", "The beta schedule \"\(config.betaSchedule)\" is not known.",
                field: "beta_schedule", remedy: "Use scaled_linear, linear or squaredcos_cap_v2.")
        }
    }

    /// `torch.linspace`: the lower half counts from the start, the upper half back from the end.
    private static func linearSpace<Scalar: BinaryFloatingPoint>(
        _ start: Scalar, _ end: Scalar, _ count: Int
    ) -> [Scalar] {
        guard count > 1 else { return count == 1 ? [start] : [] }
        let step = (end - start) / Scalar(count - 1)
        return (0..<count).map { index in
            index < count / 2 ? start + step * Scalar(index) : end - step * Scalar(count - 1 - index)
        }
    }

    /// ᾱ at `timestep`; −1 is the last entry, because the schedulers index as Python does.
    package func alphaCumprod(at timestep: Int) throws(Failure) -> Double {
        let index = timestep < 0 ? timestep + alphasCumprod.count : timestep
        guard alphasCumprod.indices.contains(index) else {
            throw Failure(
                "timestep_out_of_range",
                "Timestep \(timestep) lies outside the noise schedule of \(alphasCumprod.count) steps.",
                field: "timestep")
        }
        return alphasCumprod[index]
    }

    /// The forward process x_t = √ᾱ_t·x0 + √(1−ᾱ_t)·ε in float32 (diffusers `add_noise`), in the dtype of `clean`.
    package func addNoise(_ noise: Tensor, to clean: Tensor, timestep: Int) throws(Failure) -> Tensor {
        try combine(clean, noise, timestep: timestep) { root, complement, clean, noise in
            root * clean + complement * noise
        }
    }

    /// The v-prediction target √ᾱ_t·ε − √(1−ᾱ_t)·x0 in float32 (diffusers `get_velocity`), in the dtype of `clean`.
    package func velocity(clean: Tensor, noise: Tensor, timestep: Int) throws(Failure) -> Tensor {
        try combine(clean, noise, timestep: timestep) { root, complement, clean, noise in
            root * noise - complement * clean
        }
    }

    private func combine(
        _ clean: Tensor, _ noise: Tensor, timestep: Int, _ formula: (Float, Float, Float, Float) -> Float
    ) throws(Failure) -> Tensor {
        try requireSameShape(clean, noise, field: "noise")
        // ᾱ is cast before the subtraction, as add_noise does; in float32 whatever the latents are (reference §6.7).
        let alpha = Float(try alphaCumprod(at: timestep))
        let root = alpha.squareRoot()
        let complement = (1 - alpha).squareRoot()
        let cleanValues = try clean.floats(field: "latents")
        let noiseValues = try noise.floats(field: "noise")
        let values = zip(cleanValues, noiseValues).map { formula(root, complement, $0, $1) }
        return Tensor(rounding: values, shape: clean.shape, dtype: clean.dtype)
    }
}
