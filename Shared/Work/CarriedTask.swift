package import Wire

/// What a retried job had made of one of its tasks: its durable outputs, or the checkpoint it would go on from.
package struct CarriedTask: Sendable, Hashable, Codable {
    package var name: String
    package var worker: String
    package var numerics: String
    package var isResumedElsewhere: Bool
    /// Outputs of a task that was done; empty otherwise.
    package var outputs: [NamedRef]
    package var elapsedMilliseconds: UInt64
    package var notes: [String]
    package var checkpoint: TensorRef?
    package var checkpointStep: UInt32
    package var checkpointNumerics: String
    /// nil in ledgers of earlier releases.
    package var earlierCheckpoint: CheckpointMark?
    /// As in `TaskRecord`.
    package var manner: String?

    /// - Returns: nil for a task that has nothing to carry over: not begun, or done with outputs in a worker's memory.
    package init?(_ task: TaskRecord) {
        let isDone = task.state == .done && task.specification.durableOutputs
        guard isDone || task.checkpoint != nil else { return nil }
        name = task.specification.name
        worker = task.worker
        numerics = task.numerics
        isResumedElsewhere = task.isResumedElsewhere
        outputs = isDone ? task.outputs : []
        elapsedMilliseconds = task.elapsedMilliseconds
        notes = task.notes
        manner = task.manner
        checkpoint = task.checkpoint
        checkpointStep = task.checkpointStep
        checkpointNumerics = task.checkpointNumerics
        earlierCheckpoint = task.earlierCheckpoint
    }
}

extension JobRecord {
    /// Begins with what another job had done.
    mutating func take(over carried: CarriedTask) {
        guard let index = index(of: carried.name) else { return }
        tasks[index].isResumedElsewhere = carried.isResumedElsewhere
        if carried.outputs.isEmpty {
            tasks[index].checkpoint = carried.checkpoint
            tasks[index].checkpointStep = carried.checkpointStep
            tasks[index].checkpointNumerics = carried.checkpointNumerics
            tasks[index].earlierCheckpoint = carried.earlierCheckpoint
        } else {
            tasks[index].state = .done
            tasks[index].worker = carried.worker
            tasks[index].numerics = carried.numerics
            tasks[index].outputs = carried.outputs
            tasks[index].elapsedMilliseconds = carried.elapsedMilliseconds
            tasks[index].notes = carried.notes
            tasks[index].manner = carried.manner
        }
    }
}
