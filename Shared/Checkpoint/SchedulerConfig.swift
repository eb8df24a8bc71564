package import Failure

/// `scheduler/scheduler_config.json`; absent fields hold the defaults of the scheduler class, which differ from what
/// the released checkpoints say (the class clips samples, predicts ε and spaces its steps "leading").
package struct SchedulerConfig: Sendable, Hashable, Codable {
    /// `CogVideoXDDIMScheduler` or `CogVideoXDPMScheduler`.
    package var className: String
    package var numTrainTimesteps: Int
    package var betaStart: Double
    package var betaEnd: Double
    /// `linear`, `scaled_linear` or `squaredcos_cap_v2`.
    package var betaSchedule: String
    /// Betas given one by one instead of a schedule.
    package var trainedBetas: [Double]?
    package var clipSample: Bool
    package var clipSampleRange: Double
    package var setAlphaToOne: Bool
    package var stepsOffset: Int
    /// `v_prediction`, `epsilon` or `sample`.
    package var predictionType: String
    /// `trailing`, `leading` or `linspace`.
    package var timestepSpacing: String
    package var rescaleBetasZeroSNR: Bool
    package var snrShiftScale: Double
    package var sampleMaxValue: Double

    /// Reads and validates `scheduler/scheduler_config.json` in a model folder; errors are `model_config_invalid`.
    package init(folder: String) throws(Failure) {
        let file = try ConfigFile(folder: folder, name: "scheduler/scheduler_config.json")
        className = try file.choice(
            "_class_name", default: "CogVideoXDDIMScheduler", of: ["CogVideoXDDIMScheduler", "CogVideoXDPMScheduler"])
        numTrainTimesteps = try file.integer("num_train_timesteps", default: 1000, in: 1...1_000_000)
        betaStart = try file.positiveNumber("beta_start", default: 0.00085)
        betaEnd = try file.positiveNumber("beta_end", default: 0.012)
        betaSchedule = try file.choice(
            "beta_schedule", default: "scaled_linear", of: ["linear", "scaled_linear", "squaredcos_cap_v2"])
        trainedBetas = try file.numbers("trained_betas")
        clipSample = try file.bool("clip_sample", default: true)
        clipSampleRange = try file.positiveNumber("clip_sample_range", default: 1)
        setAlphaToOne = try file.bool("set_alpha_to_one", default: true)
        stepsOffset = try file.integer("steps_offset", default: 0, in: 0...1_000_000)
        predictionType = try file.choice(
            "prediction_type", default: "epsilon", of: ["v_prediction", "epsilon", "sample"])
        timestepSpacing = try file.choice(
            "timestep_spacing", default: "leading", of: ["trailing", "leading", "linspace"])
        rescaleBetasZeroSNR = try file.bool("rescale_betas_zero_snr", default: false)
        snrShiftScale = try file.positiveNumber("snr_shift_scale", default: 3)
        sampleMaxValue = try file.positiveNumber("sample_max_value", default: 1)
        let betas = trainedBetas ?? Array(repeating: betaStart, count: numTrainTimesteps)
        guard betas.count == numTrainTimesteps, betas.allSatisfy({ (0..<1).contains($0) }) else {
            throw file.invalid("trained_betas", "\(numTrainTimesteps) numbers from 0 up to 1")
        }
        guard betaStart < 1, betaEnd < 1 else { throw file.invalid("beta_end", "below 1, as must beta_start") }
    }
}
