package import Checkpoint
package import Failure

/// Which training timesteps a run visits (diffusers `set_timesteps`), with the reference's quirks.
///
/// The samplers step from t to t − ⌊T/n⌋ whatever the next timestep of the list is. Unless the two agree on every step
/// and the last one ends beyond 0, the run skips noise levels or ends noisy: such a count is unsafe.
package struct TimestepSchedule: Sendable, Hashable {
    /// T: the number of training timesteps.
    package let trainingCount: Int
    /// `trailing`, `leading` or `linspace`.
    package let spacing: String
    /// Added to every timestep under `leading`.
    package let stepsOffset: Int

    /// Takes the spacing from a scheduler's configuration.
    package init(config: SchedulerConfig) {
        trainingCount = config.numTrainTimesteps
        spacing = config.timestepSpacing
        stepsOffset = config.stepsOffset
    }

    /// The timesteps of an n-step run, noisiest first.
    ///
    /// Errors: `num_inference_steps_invalid` below 1 or above the training steps, `scheduler_unsupported` for an
    /// unknown spacing and, unless `allowUnsafe`, `num_inference_steps_unsafe` naming the nearest safe counts. An
    /// unsafe count runs exactly as in diffusers, which for some counts adds a step at timestep −1.
    package func timesteps(numInferenceSteps count: Int, allowUnsafe: Bool = false) throws(Failure) -> [Int] {
        guard count >= 1, count <= trainingCount else {
            throw Failure(
                "num_inference_steps_invalid",
                "num_inference_steps is \(count), but must be from 1 to \(trainingCount).",
                field: "num_inference_steps", remedy: "50 is the usual number.")
        }
        guard let result = list(count) else {
            throw Failure(
                "scheduler_unsupported", "The timestep spacing \"\(spacing)\" is not known.", field: "timestep_spacing",
                remedy: "Use trailing, leading or linspace.")
        }
        guard allowUnsafe || isSafe(stepCount: count) else {
            let nearest = nearestSafe(count).map(String.init).joined(separator: " or ")
            throw Failure(
                "num_inference_steps_unsafe",
                "\(count) steps do not end in a clean video: with \(spacing) spacing this scheduler's steps miss their noise"
                    + " levels.",
                field: "num_inference_steps",
                remedy: nearest.isEmpty ? "Allow unsafe step counts." : "Use \(nearest), or allow unsafe step counts.")
        }
        return result
    }

    /// Whether every step lands on the next timestep of the list and the last one on a clean video.
    package func isSafe(stepCount: Int) -> Bool {
        guard stepCount >= 1, stepCount <= trainingCount, let steps = list(stepCount), steps.count == stepCount,
            steps.allSatisfy({ (0..<trainingCount).contains($0) }), let last = steps.last
        else { return false }
        let stride = trainingCount / stepCount
        return last - stride < 0 && zip(steps, steps.dropFirst()).allSatisfy { $0 - stride == $1 }
    }

    /// The safe counts next below and next above `count`.
    package func nearestSafe(_ count: Int) -> [Int] {
        let below = stride(from: min(count, trainingCount + 1) - 1, through: 1, by: -1).first(where: isSafe(stepCount:))
        let above = count < trainingCount ? ((max(count, 0) + 1)...trainingCount).first(where: isSafe(stepCount:)) : nil
        return [below, above].compactMap { $0 }
    }

    private func list(_ count: Int) -> [Int]? {
        let total = Double(trainingCount)
        switch spacing {
        case "trailing":
            let ratio = total / Double(count)
            // numpy's arange takes its stride from the first two rounded elements.
            let step = (total - ratio) - total
            return (0..<Int((total / ratio).rounded(.up))).map { index in
                Int((total + Double(index) * step).rounded(.toNearestOrEven)) - 1
            }
        case "leading":
            return (0..<count).reversed().map { $0 * (trainingCount / count) + stepsOffset }
        case "linspace":
            guard count > 1 else { return [0] }
            let step = (total - 1) / Double(count - 1)
            return (0..<count).reversed().map { index in
                index == count - 1 ? trainingCount - 1 : Int((Double(index) * step).rounded(.toNearestOrEven))
            }
        default: return nil
        }
    }
}
