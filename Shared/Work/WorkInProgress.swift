import Wire

// Finish-first between stages: no stage runs far ahead of the one that reads its outputs.
extension JobRecord {
    /// The stage that reads a task's outputs, if another stage does.
    func consumer(of task: TaskSpecification) -> String? { reader(of: task)?.specification.stage }

    /// The task of another stage that reads a task's outputs.
    func reader(of task: TaskSpecification) -> TaskRecord? {
        tasks.first { $0.specification.stage != task.stage && $0.producers.contains(task.name) }
    }

    /// Whether work on what a task is a part of has begun: another of its stage that feeds the same reader is at work or
    /// done.
    func isPartOfBegun(_ task: TaskSpecification) -> Bool {
        guard let feeding = reader(of: task)?.producers, feeding.count > 1 else { return false }
        return tasks.contains { other in
            other.specification.stage == task.stage && other.specification.name != task.name
                && (other.state == .leased || other.state == .done) && feeding.contains(other.specification.name)
        }
    }
}

extension BrokerState {
    /// Tasks that may wait at a stage: some for each of its slots.
    private func backlogLimit(_ stage: String) -> Int {
        let slots = workers.values.reduce(0) { sum, worker in
            worker.hello.capabilities.contains { $0.stage == stage } ? sum + Int(worker.hello.slots) : sum
        }
        return max(1, slots) * configuration.backlogPerSlot
    }

    /// Whether so much waits for a stage that nothing of this priority is begun in front of it.
    func isFull(_ stage: String, priority: Int32, _ backlog: Backlog? = nil) -> Bool {
        (backlog ?? index.backlog).count(stage, priority: priority) >= backlogLimit(stage)
    }

    /// The stage whose backlog keeps a READY task from being begun, as of the last forecast; nil lets it go. What has been
    /// begun is finished.
    func stageInTheWay(of task: TaskRecord, in job: JobRecord) -> String? {
        guard task.checkpoint == nil, !job.isPartOfBegun(task.specification),
            let stage = job.consumer(of: task.specification),
            isFull(stage, priority: job.priority, foreseenBacklog)
        else { return nil }
        return stage
    }
}
