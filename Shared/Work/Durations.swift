import FoundationEssentials
import Wire

/// Work that finds a worker warm or cold: weights are loaded for a model in one precision.
struct Workload: Sendable, Hashable {
    var stage: String
    var model: String
    var precision: String
}

/// What the scheduler reads from a task's parameters, once: it is JSON, and every beat asks.
struct TaskCost: Sendable {
    private struct Parameters: Decodable {
        enum CodingKeys: CodingKey { case width, height, pixels, numFrames, numInferenceSteps, dtype }

        var sizes: [Double]
        var precision: String?

        init(from decoder: any Decoder) throws {
            let container = try decoder.container(keyedBy: CodingKeys.self)
            sizes = [.width, .height, .pixels, .numFrames, .numInferenceSteps].compactMap { key in
                try? container.decodeIfPresent(Double.self, forKey: key)
            }
            precision = try? container.decodeIfPresent(String.self, forKey: .dtype)
        }
    }

    /// Relative amount of work; only ratios between tasks of one stage and model matter.
    let amount: Double
    let workload: Workload

    init(_ task: TaskSpecification) {
        let parameters = try? JSONDecoder().decode(Parameters.self, from: Data(task.parameters.utf8))
        amount = (parameters?.sizes ?? []).filter { $0 > 0 && $0.isFinite }.reduce(1, *)
        workload = Workload(stage: task.stage, model: task.model, precision: parameters?.precision ?? "")
    }
}

/// How long stages take, learned from finished tasks: the mean time per unit of cost for each (stage, model).
///
/// The broker does not know what a stage's parameters mean. It looks only for numbers whose product every stage's work
/// grows with (`width`, `height`, `pixels`, `numFrames`, `numInferenceSteps`) and takes a task without them as one unit.
struct Durations: Sendable {
    private struct Key: Hashable { var stage: String; var model: String }
    private struct Mean { var millisecondsPerCost: Double; var count: Int }

    private var means: [Key: Mean] = [:]

    /// Learns from a task that took so long. Old measurements fade: the mean follows the last twenty or so.
    mutating func learn(_ cost: TaskCost, milliseconds: UInt64) {
        guard milliseconds > 0 else { return }
        let key = Key(stage: cost.workload.stage, model: cost.workload.model)
        let sample = Double(milliseconds) / cost.amount
        guard let mean = means[key] else {
            means[key] = Mean(millisecondsPerCost: sample, count: 1)
            return
        }
        let count = min(mean.count + 1, 20)
        let updated = mean.millisecondsPerCost + (sample - mean.millisecondsPerCost) / Double(count)
        means[key] = Mean(millisecondsPerCost: updated, count: count)
    }

    /// Expected time of a whole task like this; nil when nothing like it has finished yet.
    func expectedMilliseconds(_ cost: TaskCost) -> UInt64? {
        guard let mean = means[Key(stage: cost.workload.stage, model: cost.workload.model)] else { return nil }
        return UInt64(min(max(1, mean.millisecondsPerCost * cost.amount), 1e15))
    }
}

extension BrokerState {
    mutating func learnCosts(of job: JobRecord) {
        for task in job.tasks {
            costs[TaskID(job: job.job, name: task.specification.name)] = TaskCost(task.specification)
        }
    }

    mutating func forgetCosts(of job: JobRecord) {
        for task in job.tasks { costs[TaskID(job: job.job, name: task.specification.name)] = nil }
    }

    mutating func forgetVolatileState(of job: JobRecord) {
        for task in job.tasks {
            let id = TaskID(job: job.job, name: task.specification.name)
            leases[id] = nil
            notBefore[id] = nil
            refusals[id] = nil
            preemptions[id] = nil
            followers[id] = nil
        }
        forgetCosts(of: job)
        deadlines[job.job] = nil
    }
}
