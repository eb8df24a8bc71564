package import Checkpoint
package import Failure
package import Tensor

/// The samplers that the CogVideoX pipelines use.
package enum SamplerKind: String, Sendable, Hashable, CaseIterable {
    /// `CogVideoXDDIMScheduler`: deterministic.
    case ddim
    /// `CogVideoXDPMScheduler`: SDE-DPM-Solver++(2M), draws noise on every step.
    case dpm

    /// The sampler of a scheduler's `_class_name`.
    package init?(className: String) {
        switch className {
        case "CogVideoXDDIMScheduler": self = .ddim
        case "CogVideoXDPMScheduler": self = .dpm
        default: return nil
        }
    }
}

/// What the network predicts.
package enum PredictionType: String, Sendable, Hashable {
    case velocity = "v_prediction"
    case noise = "epsilon"
    case original = "sample"
}

/// One run of a sampler: its timesteps and what it remembers from step to step.
///
/// Steps are those of diffusers, including the rounding of intermediate products when latents are bfloat16 or float16
/// and the noise draw that the DPM step wastes. Keep latents in float32 for better quality than diffusers' bfloat16.
package struct Sampler: Sendable {
    package let kind: SamplerKind
    package let schedule: NoiseSchedule
    package let predictionType: PredictionType
    /// The timesteps of the run, noisiest first; one step each.
    package let timesteps: [Int]
    /// n, the number of steps asked for, which sets the stride; a few unsafe counts have n + 1 timesteps.
    package let numInferenceSteps: Int
    /// x0 as the last step estimated it, float32: the DPM step's memory, and what a preview shows.
    package private(set) var predictedOriginal: Tensor?

    /// Prepares a run.
    ///
    /// - Parameter strength: 0 … 1, which part of the steps runs, the last ones (`get_timesteps` of diffusers'
    ///   video-to-video pipeline); nil runs all.
    ///
    /// Errors are those of `TimestepSchedule.timesteps`, `scheduler_unsupported` and `strength_out_of_range`.
    package init(
        kind: SamplerKind, config: SchedulerConfig, numInferenceSteps: Int, allowUnsafe: Bool = false,
        strength: Double? = nil
    ) throws(Failure) {
        guard let predictionType = PredictionType(rawValue: config.predictionType) else {
            throw Failure(
                "scheduler_unsupported", "The prediction type \"\(config.predictionType)\" is not known.",
                field: "prediction_type", remedy: "Use v_prediction, epsilon or sample.")
        }
        self.kind = kind
        self.predictionType = predictionType
        self.numInferenceSteps = numInferenceSteps
        schedule = try NoiseSchedule(config: config)
        let all = try TimestepSchedule(config: config)
            .timesteps(numInferenceSteps: numInferenceSteps, allowUnsafe: allowUnsafe)
        let first = try strength.map { (value) throws(Failure) in
            numInferenceSteps - (try Self.steps(ofStrength: value, of: numInferenceSteps))
        }
        timesteps = Array(all.dropFirst(first ?? 0))
    }

    /// How many of `count` steps run at this strength. Fails with `strength_out_of_range` unless it is within 0 … 1 and
    /// leaves a step to run.
    package static func steps(ofStrength strength: Double, of count: Int) throws(Failure) -> Int {
        guard (0...1).contains(strength), Int(Double(count) * strength) >= 1 else {
            throw Failure(
                "strength_out_of_range",
                "strength is \(strength), which leaves no step of \(count) to run or is no part.",
                field: "strength", remedy: "Use a value up to 1 that leaves at least one step: 0.8 is the default.")
        }
        return Int(Double(count) * strength)
    }

    /// Continues a run from a checkpoint's `previousOriginal`.
    package mutating func restore(previousOriginal: Tensor?) { predictedOriginal = previousOriginal }

    /// Moves the latents from `timesteps[stepIndex]` to the next noise level.
    ///
    /// - Parameters:
    ///   - modelOutput: the (guided) prediction of the network, the shape of the latents.
    ///   - latents: any shape; the result has their dtype.
    ///   - generator: where a DPM step takes its noise from, in the order diffusers does.
    /// - Throws: `tensor_shape_mismatch`, `tensor_dtype_invalid`, `step_index_invalid`,
    ///   `previous_original_missing`, `latents_not_finite`.
    package mutating func step(
        modelOutput: Tensor, latents: Tensor, stepIndex: Int, generator: inout TorchGenerator
    ) throws(Failure) -> Tensor {
        guard timesteps.indices.contains(stepIndex) else {
            throw Failure(
                "step_index_invalid", "Step \(stepIndex) is not one of the \(timesteps.count) steps of this run.",
                field: "step_index")
        }
        if stepIndex == 0 { predictedOriginal = nil }
        guard kind == .ddim || stepIndex == 0 || predictedOriginal != nil else {
            throw Failure(
                "previous_original_missing",
                "Step \(stepIndex) of the DPM sampler needs the x0 estimate of the step before.",
                field: "previous_original", remedy: "Restore it from the checkpoint, or begin at step 0.")
        }
        try requireSameShape(latents, modelOutput, field: "model_output")
        let output = try modelOutput.floats(field: "model_output")
        let sample = try latents.floats(field: "latents")
        let result: [Float]
        switch latents.dtype {
        case .bfloat16: result = try step(RoundingToBFloat16.self, output, sample, latents, stepIndex, &generator)
        case .float16: result = try step(RoundingToFloat16.self, output, sample, latents, stepIndex, &generator)
        default: result = try step(RoundingToFloat32.self, output, sample, latents, stepIndex, &generator)
        }
        guard result.allSatisfy(\.isFinite) else {
            throw Failure(
                "latents_not_finite",
                "Step \(stepIndex) (timestep \(timesteps[stepIndex])) made latents that are not finite.",
                field: "latents", remedy: "Use float32 or bfloat16; float16 overflows in the 5B models.")
        }
        return Tensor(rounding: result, shape: latents.shape, dtype: latents.dtype)
    }

    private mutating func step<Rounding: LatentRounding>(
        _ rounding: Rounding.Type, _ output: [Float], _ sample: [Float], _ latents: Tensor, _ stepIndex: Int,
        _ generator: inout TorchGenerator
    ) throws(Failure) -> [Float] {
        let timestep = timesteps[stepIndex]
        let target = timestep - schedule.alphasCumprod.count / numInferenceSteps
        let alpha = try schedule.alphaCumprod(at: timestep)
        let targetAlpha = target >= 0 ? try schedule.alphaCumprod(at: target) : schedule.finalAlphaCumprod
        let original = estimateOriginal(rounding, output, sample, alpha: alpha)
        defer { predictedOriginal = Tensor(original, shape: latents.shape) }

        switch kind {
        case .ddim:
            let scalars = DDIMCoefficients(alpha: alpha, previousAlpha: targetAlpha)
            let a = rounding.rounded(Float(scalars.sampleScale))
            let b = Float(scalars.originalScale)
            return elements(sample.count) { rounding.rounded(a * sample[$0]) + b * original[$0] }
        case .dpm:
            let before = stepIndex > 0 ? try schedule.alphaCumprod(at: timesteps[stepIndex - 1]) : nil
            let scalars = DPMCoefficients(alpha: alpha, previousAlpha: targetAlpha, alphaBefore: before)
            var denoised = original
            if let previous = try previousOriginal(latents), target >= 0, let (m3, m4) = scalars.extrapolation {
                // diffusers draws the first-order step's noise, discards that step, and draws again.
                generator.skipNormals(count: sample.count, dtype: latents.dtype)
                let (m3, m4) = (Float(m3), Float(m4))
                denoised = elements(sample.count) { m3 * original[$0] - m4 * previous[$0] }
            }
            let noise = try generator.randn(shape: latents.shape, dtype: latents.dtype).floats(field: "noise")
            let m2 = Float(scalars.denoisedScale)
            let (m1, mn) = (rounding.rounded(Float(scalars.sampleScale)), rounding.rounded(Float(scalars.noiseScale)))
            return elements(sample.count) { index in
                (rounding.rounded(m1 * sample[index]) - m2 * denoised[index]) + rounding.rounded(mn * noise[index])
            }
        }
    }

    /// x0 from the network's prediction, float32.
    private func estimateOriginal<Rounding: LatentRounding>(
        _ rounding: Rounding.Type, _ output: [Float], _ sample: [Float], alpha: Double
    ) -> [Float] {
        let (signal, noise) = (Float(alpha.squareRoot()), Float((1 - alpha).squareRoot()))
        switch predictionType {
        case .velocity:
            let roundedSignal = rounding.rounded(signal)
            return elements(sample.count) { rounding.rounded(roundedSignal * sample[$0]) - noise * output[$0] }
        case .noise: return elements(sample.count) { (sample[$0] - noise * output[$0]) / signal }
        case .original: return output
        }
    }

    private func previousOriginal(_ latents: Tensor) throws(Failure) -> [Float]? {
        guard let previous = predictedOriginal else { return nil }
        try requireSameShape(latents, previous, field: "previous_original")
        return try previous.floats(field: "previous_original")
    }

    @inline(__always) private func elements(_ count: Int, _ formula: (Int) -> Float) -> [Float] {
        [Float](unsafeUninitializedCapacity: count) { buffer, initialized in
            for index in 0..<count { buffer[index] = formula(index) }
            initialized = count
        }
    }
}
