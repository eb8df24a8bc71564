import FoundationEssentials
import Wire

/// How long stages take, learned from finished tasks: the mean time per unit of cost for each (stage, model).
///
/// The broker does not know what a stage's parameters mean. It looks only for numbers whose product every stage's work
/// grows with (`width`, `height`, `numFrames`, `numInferenceSteps`) and takes a task without them as one unit.
struct Durations: Sendable {
    private struct Key: Hashable { var stage: String; var model: String }
    private struct Mean { var millisecondsPerCost: Double; var count: Int }

    private struct CostParameters: Decodable {
        var width: Double?
        var height: Double?
        var numFrames: Double?
        var numInferenceSteps: Double?
    }

    private var means: [Key: Mean] = [:]

    /// Relative amount of work in a task; only ratios between tasks of one stage and model matter.
    static func cost(of specification: TaskSpecification) -> Double {
        let decoder = JSONDecoder()
        guard
            let parameters = try? decoder.decode(CostParameters.self, from: Data(specification.parameters.utf8))
        else { return 1 }
        let factors = [parameters.width, parameters.height, parameters.numFrames, parameters.numInferenceSteps]
        return factors.compactMap(\.self).filter { $0 > 0 && $0.isFinite }.reduce(1, *)
    }

    /// Learns from a DONE task. Old measurements fade: the mean follows the last twenty or so.
    mutating func learn(_ task: TaskRecord) {
        guard task.elapsedMilliseconds > 0 else { return }
        let key = Key(stage: task.specification.stage, model: task.specification.model)
        let sample = Double(task.elapsedMilliseconds) / Self.cost(of: task.specification)
        guard let mean = means[key] else {
            means[key] = Mean(millisecondsPerCost: sample, count: 1)
            return
        }
        let count = min(mean.count + 1, 20)
        let updated = mean.millisecondsPerCost + (sample - mean.millisecondsPerCost) / Double(count)
        means[key] = Mean(millisecondsPerCost: updated, count: count)
    }

    /// Expected time of a whole task of this cost; nil when nothing like it has finished yet.
    func expectedMilliseconds(stage: String, model: String, cost: Double) -> UInt64? {
        guard let mean = means[Key(stage: stage, model: model)] else { return nil }
        return UInt64(min(max(1, mean.millisecondsPerCost * cost), 1e15))
    }
}

extension BrokerState {
    mutating func learnCosts(of job: JobRecord) {
        for task in job.tasks {
            costs[TaskID(job: job.job, name: task.specification.name)] = Durations.cost(of: task.specification)
        }
    }

    mutating func forgetVolatileState(of job: JobRecord) {
        for task in job.tasks {
            let id = TaskID(job: job.job, name: task.specification.name)
            costs[id] = nil
            leases[id] = nil
            notBefore[id] = nil
            refusals[id] = nil
            preemptions[id] = nil
        }
    }
}
